"""The same client for code that does not use asyncio: an `AsyncClient` on an event loop of its own, in one thread.

Every call may come from any thread. Ctrl-C ends the call that waits, and the client stays usable.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from fieldpost.client.client import GIVE_UP_SECONDS, AsyncClient
from fieldpost.client.link import OnBroadcast, OnChunk, OnTrouble
from fieldpost.client.posting import Question
from fieldpost.client.standing import Standing
from fieldpost.client.stream import Stream
from fieldpost.messages.requests import RequestState
from fieldpost.messages.responses import Response

T = TypeVar("T")


class _Loop:
    """An event loop in a thread, until it is closed."""

    def __init__(self) -> None:
        started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._stop = asyncio.Event()
        self._is_closed = False
        #: What was handed over before the stop is cancelled by it; nothing is handed over after it.
        self._handing_over = threading.Lock()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(started)), name="fieldpost-client", daemon=True
        )
        self._thread.start()
        self._loop = started.result()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; it is cancelled when waiting for it is interrupted."""
        with self._handing_over:
            if self._is_closed:
                coroutine.close()
                raise RuntimeError("the client is closed")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError("the client was closed") from None
        finally:
            future.cancel()

    def close(self) -> None:
        """Cancels what still runs, and ends the thread. Safe to call again."""
        with self._handing_over:
            if not self._is_closed:
                self._is_closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _live(self, started: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
        started.set_result(asyncio.get_running_loop())
        await self._stop.wait()


class Client:
    """A device's connection to Fieldpost, for threads; see `AsyncClient`, whose methods these are.

    Args:
        url: the server; by default from `FIELDPOST_URL`, else http://127.0.0.1:5000.
        key: the device's key; by default from `FIELDPOST_KEY`.
        give_up_seconds: calls that the server cannot serve right now are repeated for so long.

    Raises:
        ConfigError: the URL cannot be one.
        UnauthenticatedError: the key cannot be one.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, give_up_seconds: float = GIVE_UP_SECONDS
    ) -> None:
        self._client = AsyncClient(url, key, give_up_seconds=give_up_seconds)
        self._loop = _Loop()

    def __repr__(self) -> str:
        return repr(self._client).removeprefix("Async")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes every stream and connection, and ends the thread. Safe to call again."""
        try:
            self._loop.run(self._client.aclose())
        except RuntimeError:
            # Closed already.
            pass
        finally:
            self._loop.close()

    def post(
        self,
        question: Question,
        *,
        model: str | None = None,
        kind: str | None = None,
        priority: str | None = None,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        cache: bool | None = None,
        traceparent: str | None = None,
    ) -> UUID:
        """Posts a request; returns its id when it is safe on the server's disk."""
        return self._loop.run(
            self._client.post(
                question,
                model=model,
                kind=kind,
                priority=priority,
                deadline_seconds=deadline_seconds,
                idempotency_key=idempotency_key,
                cache=cache,
                traceparent=traceparent,
            )
        )

    def wait(self, request_id: UUID, *, timeout_seconds: float = 60.0, acknowledge: bool = True) -> Response:
        """The final answer, acknowledged unless you do that yourself, later."""
        return self._loop.run(self._client.wait(request_id, timeout_seconds=timeout_seconds, acknowledge=acknowledge))

    def ask(
        self,
        question: Question,
        *,
        timeout_seconds: float = 60.0,
        model: str | None = None,
        kind: str | None = None,
        priority: str | None = None,
        deadline_seconds: float | None = None,
        idempotency_key: str | None = None,
        cache: bool | None = None,
        traceparent: str | None = None,
    ) -> Response:
        """Posts and waits."""
        return self._loop.run(
            self._client.ask(
                question,
                timeout_seconds=timeout_seconds,
                model=model,
                kind=kind,
                priority=priority,
                deadline_seconds=deadline_seconds,
                idempotency_key=idempotency_key,
                cache=cache,
                traceparent=traceparent,
            )
        )

    def status(self, request_id: UUID) -> Standing:
        """Where a request stands; does not acknowledge."""
        return self._loop.run(self._client.status(request_id))

    def cancel(self, request_id: UUID) -> RequestState:
        """Cancels a request; the state that resulted."""
        return self._loop.run(self._client.cancel(request_id))

    def acknowledge(self, request_ids: Iterable[UUID]) -> None:
        """Tells the server that the device has these answers; returns when that is recorded."""
        self._loop.run(self._client.acknowledge(request_ids))

    def connect(
        self,
        *,
        on_trouble: OnTrouble | None = None,
        on_chunk: OnChunk | None = None,
        on_broadcast: OnBroadcast | None = None,
    ) -> "BlockingStream":
        """A listener that can also post; use it as a context manager. The functions are called in the client's thread."""
        return BlockingStream(
            self._loop,
            lambda: self._client.connect(on_trouble=on_trouble, on_chunk=on_chunk, on_broadcast=on_broadcast),
        )

    def listen(
        self,
        *,
        on_trouble: OnTrouble | None = None,
        on_chunk: OnChunk | None = None,
        on_broadcast: OnBroadcast | None = None,
    ) -> Iterator[Response]:
        """Every answer, for ever; acknowledged when the next one is asked for."""
        with self.connect(on_trouble=on_trouble, on_chunk=on_chunk, on_broadcast=on_broadcast) as stream:
            for response in stream:
                yield response
                stream.acknowledge(response)


class BlockingStream:
    """A `Stream` for threads; made by `Client.connect`."""

    def __init__(self, loop: _Loop, make: Callable[[], Stream]) -> None:
        self._loop = loop
        self._make = make
        self._stream: Stream | None = None

    def __enter__(self) -> Self:
        self._stream = self._loop.run(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Response]:
        while True:
            yield self.receive()

    def close(self) -> None:
        """Waits a moment until what was acknowledged is recorded, then leaves. Safe to call again."""
        self._loop.run(self._opened.aclose())

    def post(self, question: Question, **options: Any) -> UUID:
        """Posts a request over the connection; the options are those of `Client.post`."""
        return self._loop.run(self._opened.post(question, **options))

    def receive(self) -> Response:
        """The next answer, each once; acknowledge it when you are done with it."""
        return self._loop.run(self._opened.receive())

    def acknowledge(self, *answers: Response | UUID) -> None:
        """Tells the server, soon and as often as it takes, that the device has these; does not wait for it."""
        self._loop.run(self._acknowledge(answers))

    def acknowledged(self, *, timeout_seconds: float = 30.0) -> None:
        """Returns when every acknowledgement is recorded: none of these answers comes again."""
        self._loop.run(self._opened.acknowledged(timeout_seconds=timeout_seconds))

    @property
    def _opened(self) -> Stream:
        if self._stream is None:
            raise RuntimeError("use the stream as a context manager")
        return self._stream

    async def _open(self) -> Stream:
        return await self._make().__aenter__()

    async def _acknowledge(self, answers: tuple[Response | UUID, ...]) -> None:
        self._opened.acknowledge(*answers)
