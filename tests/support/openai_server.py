"""A model's server on a real socket that speaks chat completions, and misbehaves on command.

It runs in a thread of its own with raw sockets: only so can an answer be cut in the middle of its bytes.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec


class Say(msgspec.Struct, frozen=True, kw_only=True):
    """A good answer, in pieces of a few letters."""

    text: str
    finish_reason: str | None = "stop"
    counts_tokens: bool = True


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Breaks the connection off after so much of an answer; after nothing, not even a status comes."""

    after: str = ""


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """Says so much and then nothing, until the client goes."""

    after: str = ""


class Fail(msgspec.Struct, frozen=True, kw_only=True):
    """An error's status."""

    status: int
    body: str = '{"error": {"message": "no"}}'
    headers: dict[str, str] = {}


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """Status 200 and these bytes, whatever they are."""

    body: bytes
    content_type: str = "text/event-stream"
    headers: dict[str, str] = {}


Behaviour = Say | Cut | Stall | Fail | Send


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came in."""

    headers: dict[str, str]
    body: dict[str, Any]
    #: On a clock that never goes back.
    at_seconds: float

    @property
    def question(self) -> str:
        return str(self.body["messages"][-1]["content"])


class OpenAIServer:
    """What tests see of it; `url` is the base URL for clients."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        #: Clients that went while their answer stalled.
        self.deserted = 0
        self.url = ""
        self._plans: defaultdict[str, deque[Behaviour]] = defaultdict(deque)
        self._always: dict[str, Behaviour] = {}

    def on(self, words: str, *behaviours: Behaviour) -> None:
        """What questions with these words meet, one after the other; then a good answer."""
        self._plans[words].extend(behaviours)

    def always(self, words: str, behaviour: Behaviour) -> None:
        """What every question with these words meets."""
        self._always[words] = behaviour

    def times_asked(self, words: str) -> int:
        """How often a question with these words came."""
        return sum(words in asked.question for asked in list(self.asked))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; one request after the other."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                if not await self._behave(self._next(asked), asked, reader, writer):
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def _next(self, asked: Asked) -> Behaviour:
        for words, behaviour in self._always.items():
            if words in asked.question:
                return behaviour
        for words, plan in self._plans.items():
            if words in asked.question and plan:
                return plan.popleft()
        return Say(text=f"You asked: {asked.question}")

    async def _behave(
        self, behaviour: Behaviour, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection can go on."""
        match behaviour:
            case Say():
                await _say(behaviour, asked, writer)
                return True
            case Fail():
                headers = {"Content-Type": "application/json", **behaviour.headers}
                await _send(writer, behaviour.status, headers, behaviour.body.encode())
                return True
            case Send():
                headers = {"Content-Type": behaviour.content_type, **behaviour.headers}
                await _send(writer, 200, headers, behaviour.body)
                return True
            case Cut(after=text):
                if text:
                    await _begin(text, writer)
                writer.transport.abort()
                return False
            case Stall(after=text):
                # A client may go while it is still being told the beginning.
                with contextlib.suppress(ConnectionError):
                    if text:
                        await _begin(text, writer)
                    # Nothing more is asked on this connection: what comes is its end.
                    await reader.read(1)
                self.deserted += 1
                return False


@contextlib.contextmanager
def openai_server() -> Iterator[OpenAIServer]:
    """A server that listens while the context lasts."""
    server = OpenAIServer()
    listening = threading.Event()
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def run() -> None:
        async with _listening(server):
            listening.set()
            await stopping.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name="openai-server")
    thread.start()
    try:
        assert listening.wait(30)
        yield server
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        loop.close()


@contextlib.asynccontextmanager
async def _listening(server: OpenAIServer) -> AsyncIterator[None]:
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await server.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            serving.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    async with listener:
        yield
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:]) if name}
    body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
    assert lines[0].startswith("POST /v1/chat/completions ")
    return Asked(headers=headers, body=body, at_seconds=time.monotonic())


async def _say(say: Say, asked: Asked, writer: asyncio.StreamWriter) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7} if say.counts_tokens else None
    if not asked.body.get("stream"):
        message = {"role": "assistant", "content": say.text}
        choice = {"index": 0, "message": message, "finish_reason": say.finish_reason}
        whole = json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})
        await _send(writer, 200, {"Content-Type": "application/json"}, whole.encode())
        return
    await _begin(say.text, writer)
    end = _chunk([{"index": 0, "delta": {}, "finish_reason": say.finish_reason}])
    if usage and (asked.body.get("stream_options") or {}).get("include_usage"):
        end += _chunk([], usage=usage)
    writer.write(_part(end + b"data: [DONE]\n\n") + b"0\r\n\r\n")
    await writer.drain()


async def _begin(text: str, writer: asyncio.StreamWriter) -> None:
    """The head of a stream and the first pieces."""
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        + _part(_chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]))
    )
    for start in range(0, len(text), 5):
        delta = {"content": text[start : start + 5]}
        writer.write(_part(_chunk([{"index": 0, "delta": delta, "finish_reason": None}])))
    await writer.drain()


async def _send(writer: asyncio.StreamWriter, status: int, headers: dict[str, str], body: bytes) -> None:
    lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(body))}.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} Status", *lines])
    writer.write(f"{head}\r\n\r\n".encode() + body)
    await writer.drain()


def _chunk(choices: list[dict[str, Any]], *, usage: dict[str, int] | None = None) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return b"data: " + json.dumps({**chunk, "usage": usage}).encode() + b"\n\n"


def _part(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
