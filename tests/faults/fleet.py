"""A small fleet that keeps working while the server is broken under it, and writes down what it sees."""

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any, Literal

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from fieldpost.fleet.history import Event
from fieldpost.messages.identity import keyed_id
from tests.support.server import Server

#: Transport errors and a broken server's answers: the device tries again.
_BROKEN = (httpx.HTTPError, OSError, WebSocketException, TimeoutError)
#: Nothing was accepted, or the outcome is unknown: it tries again too.
_AWAY = (503, 504)
#: Who ask at the same time when all is over.
_ASKING = 8


class Fleet:
    """Devices that post over HTTP and over a WebSocket, and listen and acknowledge over the same WebSocket.

    `pause_seconds` is what a device waits at least between two requests, and before it tries again.
    """

    def __init__(
        self, server: Server, keys: Sequence[tuple[int, str]], seed: int, *, pause_seconds: float = 0.0
    ) -> None:
        self.history: list[Event] = []
        self.refused: list[str] = []
        self._server = server
        self._keys = keys
        self._random = random.Random(seed)
        self._pause_seconds = pause_seconds
        self._posting = asyncio.Event()
        self._posting.set()
        self._number = 0
        self._ack_fraction = 0.9
        self._sockets: set[ClientConnection] = set()

    @property
    def accepted(self) -> set[str]:
        return {event.request for event in self.history if event.kind == "accepted"}

    @property
    def acked(self) -> set[str]:
        return {event.request for event in self.history if event.kind == "acked"}

    @property
    def delivered(self) -> set[str]:
        return {event.request for event in self.history if event.kind == "delivered"}

    async def settle(self) -> None:
        """From now on devices only listen, and acknowledge everything, also what they left open before."""
        self._posting.clear()
        self._ack_fraction = 1.0
        await asyncio.gather(*(socket.close() for socket in self._sockets), return_exceptions=True)

    async def confirm_with_the_ledger(self) -> None:
        """Reads every accepted request once more over HTTP: its one final answer is what was delivered."""
        delivered = {event.request: event.answer for event in self.history if event.kind == "delivered"}
        accepted = [event for event in self.history if event.kind == "accepted"]
        devices = dict(self._keys)

        async def confirm(events: Sequence[Event]) -> None:
            for event in events:
                headers = {"Authorization": f"Bearer {devices[event.device]}"}
                status = (await client.get(f"/v1/requests/{event.request}", headers=headers)).json()
                assert status["status"] == "succeeded", status
                assert status["response"]["completed_at"] in delivered[event.request], status

        async with httpx.AsyncClient(base_url=self._server.url, timeout=30) as client:
            await asyncio.gather(*(confirm(accepted[first::_ASKING]) for first in range(_ASKING)))

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for device_id, key in self._keys:
                tasks.create_task(self._listen(device_id, key))
                tasks.create_task(self._post(device_id, key))

    def _see(
        self, kind: Literal["accepted", "unknown", "delivered", "acked"], device_id: int, request: str, answer: str = ""
    ) -> None:
        self.history.append(Event(kind=kind, device=device_id, request=request, answer=answer))

    def _sent(self, device_id: int, key: str) -> None:
        """On its way: the server may have it although it never says so."""
        self._see("unknown", device_id, str(keyed_id(device_id, key)))

    def _next(self) -> str:
        self._number += 1
        return f"question-{self._number}"

    async def _post(self, device_id: int, key: str) -> None:
        """Posts with a key, and again with the same key until the outcome is known."""
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=self._server.url, headers=headers, timeout=5) as client:
            while True:
                await self._posting.wait()
                question = self._next()
                while not await self._post_once(client, device_id, question):
                    await asyncio.sleep(self._pause_seconds + 0.05)
                await asyncio.sleep(self._pause_seconds + self._random.uniform(0, 0.02))

    async def _post_once(self, client: httpx.AsyncClient, device_id: int, question: str) -> bool:
        self._sent(device_id, question)
        try:
            answer = await client.post(
                "/v1/requests", json={"input": {"prompt": question}, "idempotency_key": question}
            )
        except _BROKEN:
            return False
        if answer.status_code == 202:
            self._see("accepted", device_id, answer.json()["id"])
            return True
        if answer.status_code not in _AWAY:
            self.refused.append(answer.text)
        return False

    async def _listen(self, device_id: int, key: str) -> None:
        url = self._server.url.replace("http", "ws") + "/v1/stream"
        headers = {"Authorization": f"Bearer {key}"}
        while True:
            try:
                async with (
                    connect(url, additional_headers=headers, open_timeout=5, close_timeout=1) as socket,
                    asyncio.TaskGroup() as tasks,
                ):
                    self._sockets.add(socket)
                    posting = tasks.create_task(self._post_frames(device_id, socket))
                    try:
                        async for text in socket:
                            await self._hear(device_id, socket, json.loads(text))
                    finally:
                        posting.cancel()
                        self._sockets.discard(socket)
            except (ExceptionGroup, *_BROKEN) as error:
                if isinstance(error, ExceptionGroup) and error.split(_BROKEN)[1] is not None:
                    raise
            await asyncio.sleep(self._pause_seconds + self._random.uniform(0.01, 0.1))

    async def _post_frames(self, device_id: int, socket: ClientConnection) -> None:
        while True:
            await self._posting.wait()
            ref = self._next()
            self._sent(device_id, ref)
            frame = {"type": "Request", "ref": ref, "body": {"input": {"prompt": ref}}}
            await socket.send(json.dumps(frame))
            await asyncio.sleep(self._pause_seconds + self._random.uniform(0, 0.05))

    async def _hear(self, device_id: int, socket: ClientConnection, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "Accepted":
                self._see("accepted", device_id, frame["request_id"])
            case "Rejected":
                if frame["problem"]["status"] not in _AWAY:
                    self.refused.append(json.dumps(frame))
            case "Acked":
                for request in frame["request_ids"]:
                    self._see("acked", device_id, request)
            case "Hello":
                await self._take(device_id, socket, frame.get("responses", []))
                if frame.get("next"):
                    await socket.send(json.dumps({"type": "Hello", "after": frame["next"]}))
            case "ResponseReady":
                await self._take(device_id, socket, [frame["response"]])
            case "Ping":
                await socket.send(json.dumps({"type": "Pong", "nonce": frame.get("nonce")}))

    async def _take(self, device_id: int, socket: ClientConnection, responses: list[dict[str, Any]]) -> None:
        """Writes answers down and acknowledges most of them; the others come again after a reconnect."""
        for response in responses:
            self._see("delivered", device_id, response["request_id"], json.dumps(response, sort_keys=True))
        if responses and self._random.random() < self._ack_fraction:
            ids = [response["request_id"] for response in responses]
            await socket.send(json.dumps({"type": "Ack", "request_ids": ids}))
