"""The table of `fieldpost cluster status`."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from fieldpost.cluster.standing import UNKNOWN, Standing

_GOOD = ("ready", "running", "streaming")
_MIB = 1024 * 1024


def table(parts: Sequence[Standing]) -> Table:
    """One line a part."""
    shown = Table(box=None, pad_edge=False)
    for heading in ("part", "role"):
        shown.add_column(heading)
    for heading in ("pid", "port", "RSS MiB"):
        shown.add_column(heading, justify="right")
    shown.add_column("health")
    shown.add_column("lag", justify="right")
    shown.add_column("restarts", justify="right")
    for each in parts:
        shown.add_row(
            each.part,
            each.role,
            "-" if each.pid is None else str(each.pid),
            str(each.port),
            f"{each.resident_bytes / _MIB:.0f}",
            Text(each.health, style="green" if each.health in _GOOD else "red"),
            _lag(each),
            str(each.restarts) if each.restarts else "",
        )
    return shown


def _lag(each: Standing) -> str:
    if each.role not in ("replica", UNKNOWN):
        return ""
    return UNKNOWN if each.lag_bytes is None else f"{each.lag_bytes} B"
