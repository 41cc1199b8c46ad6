"""Redis nodes know each other by port; when some of theirs were taken by others meanwhile, what they know is put right."""

import re
from collections.abc import Sequence
from pathlib import Path

from fieldpost.cluster.engines.redis import Node

_FILE = "nodes.conf"
_ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)@(\d+)")


def follow(directory: Path, nodes: Sequence[Node]) -> None:
    """Has every stopped node know the ports that all nodes have now.

    Which node had which port is told by each node's own line.
    """
    paths = [path for path in (directory / "redis" / str(node.number) / _FILE for node in nodes) if path.exists()]
    now = {str(node.number): f"127.0.0.1:{node.port}@{node.bus_port}" for node in nodes}
    before = {_own_address(path.read_text(encoding="utf-8")): now[path.parent.name] for path in paths}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        moved = _ADDRESS.sub(lambda found: before.get(found.group(), found.group()), text)
        if moved != text:
            # In place: its owner stays who may write it.
            path.write_text(moved, encoding="utf-8")


def _own_address(text: str) -> str | None:
    own = next((line for line in text.splitlines() if "myself" in line), "")
    found = _ADDRESS.search(own)
    return None if found is None else found.group()
