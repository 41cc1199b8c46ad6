"""Sending many items at once, to whatever nodes own their keys."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from fieldpost.backends.redis_cluster.circuits import range_of
from fieldpost.backends.redis_cluster.client import Client
from fieldpost.backends.redis_cluster.link import Link, State

#: Shape: (n, 2): key, item.
Items = Sequence[tuple[bytes, bytes]]
Send = Callable[[Client, Items], Awaitable[None]]
Way = Callable[[Link, Items, Send], Awaitable[None]]


async def spread(link: Link, items: Items, send: Send) -> None:
    """Sends items, those of one key in order; when a part of the engine is away, what can be sent is.

    Raises:
        BackendUnavailableError: some were not sent.
    """
    if link.state is State.PARTIAL:
        await apart(link, items, send)
    else:
        await together(link, items, send)


async def together(link: Link, items: Items, send: Send) -> None:
    """Sends items in one round trip to each node; all of them or, as long as a part has nowhere to go, perhaps none.

    Raises:
        BackendUnavailableError: some were not sent.
    """
    await link.call(lambda client: send(client, items))


async def apart(link: Link, items: Items, send: Send) -> None:
    """Sends items range by range, so that what can be sent is; see `spread`."""
    groups: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    for item in items:
        groups[range_of(item[0])].append(item)
    sending = (link.ask(group[0][0], partial(_send, send, group)) for group in groups.values())
    failures = [failure for failure in await asyncio.gather(*sending, return_exceptions=True) if failure is not None]
    if failures:
        raise failures[0]


def _send(send: Send, items: Items, client: Client) -> Awaitable[None]:
    return send(client, items)
