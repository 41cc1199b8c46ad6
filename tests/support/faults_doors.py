"""Fresh requests through each public door of a cluster, one at a time: is it answered, and soon?"""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Protocol

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.support.server import Server

#: A request that takes longer counts as not answered; the next one is a fresh one.
_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.05


class Door(Protocol):
    """A device's way in, and its answer's way out."""

    async def is_answered(self) -> bool:
        """Posts a request never posted before; whether its answer comes in time."""


class HttpDoor:
    """Post and wait."""

    def __init__(self, server: Server, key: str) -> None:
        self._url = server.url
        self._headers = {"Authorization": f"Bearer {key}", "Prefer": f"wait={_PATIENCE_SECONDS:.0f}"}
        self._numbers = itertools.count()

    async def is_answered(self) -> bool:
        body = {"input": {"prompt": f"fresh {next(self._numbers)}"}}
        try:
            # A new connection each time: as any device's first request.
            async with httpx.AsyncClient(base_url=self._url, timeout=_PATIENCE_SECONDS + 1) as client:
                reply = await client.post("/v1/requests", json=body, headers=self._headers)
        except httpx.TransportError:
            return False
        return reply.status_code == 200 and reply.json()["status"] == "succeeded"


class WebSocketDoor:
    """Connect, post, and wait for the answer on the same connection."""

    def __init__(self, server: Server, key: str) -> None:
        self._url = server.url.replace("http", "ws") + "/v1/stream"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._numbers = itertools.count()

    async def is_answered(self) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._ask(f"fresh {next(self._numbers)}")
        except (OSError, WebSocketException, TimeoutError):
            return False

    async def _ask(self, question: str) -> bool:
        async with connect(self._url, additional_headers=self._headers, close_timeout=0.2) as socket:
            body = {"input": {"prompt": question}}
            await socket.send(json.dumps({"type": "Request", "ref": question, "body": body}))
            request_id = ""
            answered: set[str] = set()
            async for text in socket:
                frame = json.loads(text)
                if frame["type"] == "Accepted":
                    request_id = frame["request_id"]
                elif frame["type"] == "ResponseReady":
                    answered.add(frame["response"]["request_id"])
                elif frame["type"] in ("Acked", "Rejected"):
                    return bool(frame["type"] == "Acked")
                if request_id in answered:
                    answered.clear()
                    await socket.send(json.dumps({"type": "Ack", "request_ids": [request_id]}))
        return False


class FolderDoor:
    """Drop a file, and look for the other."""

    def __init__(self, server: Server, device_id: int) -> None:
        self._requests = server.cloud / "Requests" / str(device_id)
        self._responses = server.cloud / "Responses" / str(device_id)
        self._requests.mkdir(parents=True, exist_ok=True)
        self._numbers = itertools.count()
        self.dropped: list[str] = []

    async def is_answered(self) -> bool:
        name = self.drop()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not self.answer(name).exists():
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            return False
        return True

    def drop(self) -> str:
        """Puts the next file there, whole at once."""
        name = f"question-{next(self._numbers)}.txt"
        half = self._requests / f"{name}.partial"
        half.write_text(f"What is {name}?")
        half.rename(self._requests / name)
        self.dropped.append(name)
        return name

    def answer(self, name: str) -> Path:
        """Where its answer will lie."""
        return self._responses / f"{name}.answer.json"
