"""A device on a WebSocket, as bare as it can be: frames out, frames in."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect

#: Only ever waited out by a test that fails.
_SECONDS = 30.0


class Peer:
    """One connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        #: Every frame that came, in order.
        self.seen: list[dict[str, Any]] = []

    async def say(self, type: str, **members: Any) -> None:  # noqa: A002
        """Sends a frame."""
        await self.socket.send(json.dumps({"type": type, **members}))

    async def hear(self, *types: str) -> dict[str, Any]:
        """The next frame of one of these types; others are only noted."""
        async with asyncio.timeout(_SECONDS):
            while True:
                frame: dict[str, Any] = json.loads(await self.socket.recv())
                self.seen.append(frame)
                if frame["type"] in types:
                    return frame

    async def ask(self, prompt: str, **body: Any) -> str:
        """Posts a request; its id."""
        ref = str(uuid4())
        await self.say("Request", ref=ref, body={"input": {"prompt": prompt}, **body})
        accepted = await self.hear("Accepted", "Rejected")
        assert accepted["type"] == "Accepted", accepted
        assert accepted["ref"] == ref
        return str(accepted["request_id"])

    async def acknowledge(self, *request_ids: str) -> list[str]:
        """Acknowledges; what the server says is settled."""
        await self.say("Ack", request_ids=list(request_ids))
        return list((await self.hear("Acked"))["request_ids"])

    def answered(self) -> list[str]:
        """Ids of all answers that came so far, in order, also those in a `Hello`."""
        ids: list[str] = []
        for frame in self.seen:
            match frame["type"]:
                case "Hello":
                    ids += [response["request_id"] for response in frame.get("responses", [])]
                case "ResponseReady":
                    ids.append(frame["response"]["request_id"])
        return ids


@asynccontextmanager
async def connected(url: str, key: str, **options: Any) -> AsyncIterator[Peer]:
    """A connection of the device with this key, closed at the end."""
    address = f"{url.replace('http', 'ws', 1)}/v1/stream"
    headers = {"Authorization": f"Bearer {key}"}
    async with connect(address, additional_headers=headers, compression=None, close_timeout=2, **options) as socket:
        yield Peer(socket)
