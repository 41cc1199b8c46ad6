"""Whether servers take the connections that pools may open to them."""

from collections import Counter
from collections.abc import Iterable, Mapping


def overdrawn(pools: Iterable[tuple[str, int]], *, max_connections: int) -> Mapping[str, int]:
    """The servers whose pools together may open more connections than they take, and how many that is.

    Args:
        pools: the server that each leads to, and its size.
    """
    sums: Counter[str] = Counter()
    for server, size in pools:
        sums[server] += size
    return {server: total for server, total in sums.items() if total > max_connections}
