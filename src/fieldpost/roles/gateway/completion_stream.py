"""One chat completion as it grows, in OpenAI's chunks.

Only ever a growing beginning of one answer: what cannot be continued ends with an error event.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import (
    BackendTimeoutError,
    DrainingError,
    FieldpostError,
    NotFoundError,
    UnavailableError,
)
from fieldpost.messages.chat import ChatCompletionChunk, ChatRequest, ChunkChoice, Delta
from fieldpost.messages.events import Event, ResponseChunk, ResponseReady
from fieldpost.messages.problems import problem
from fieldpost.messages.responses import Output, Problem, Response, Usage
from fieldpost.services.answers import Answers
from fieldpost.services.hearing import Heard, Hearing
from fieldpost.services.mailbox import Listener, Mailbox
from fieldpost.services.streaming import AttemptChangedError, Growing
from fieldpost.web import sse
from fieldpost.web.problems import openai_error, problem_of

CANCELLED = problem("cancelled", "The request was cancelled.", 409)

_DONE = b"data: [DONE]\n\n"
_BROKEN_OFF = problem("stream-broken-off", "The answer broke off.", 502, detail="another attempt began; ask again")

encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Response).decode


def too_late(request_id: UUID, *, is_draining: bool) -> FieldpostError:
    """The answer did not come while somebody waited for it."""
    cls = DrainingError if is_draining else BackendTimeoutError
    return cls(f"request {request_id} goes on; its answer waits for the device")


class CompletionStream:
    """One stream; `request_id` is there once it is accepted."""

    request_id: UUID

    def __init__(
        self,
        *,
        accept: Callable[[], Awaitable[UUID]],
        device_id: int,
        request: ChatRequest,
        timeout_seconds: float,
        clock: Clock,
        answers: Answers,
        mailbox: Mailbox,
    ) -> None:
        self._accept = accept
        self._device_id = device_id
        self._model = request.model
        self._include_usage = request.stream_options is not None and request.stream_options.include_usage
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._answers = answers
        self._mailbox = mailbox
        self._created = int(clock.now().timestamp())
        self._growing = Growing()
        self._response: Response | None = None
        #: Whether all of the final answer, good or bad, was handed on.
        self.is_whole = False

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The events; first, when the request is accepted, nothing.

        Raises:
            FieldpostError: only before that.
        """
        # Heard from before it is accepted: no piece can be missed.
        async with self._mailbox.listen(self._device_id) as listener:
            self.request_id = await self._accept()
            self._mailbox.narrow(listener, self.request_id)
            yield b""
            yield self._chunk(Delta(role="assistant", content=""))
            try:
                async with aclosing(self._texts(listener)) as texts:
                    async for text in texts:
                        yield self._chunk(Delta(content=text)) if text else sse.KEEP_ALIVE
            except AttemptChangedError:
                yield _error(_BROKEN_OFF)
                return
            except FieldpostError as error:
                yield _error(problem_of(error))
                return
        assert self._response is not None
        for event in self._end(self._response.output, self._response.error):
            yield event

    async def _texts(self, listener: Listener) -> AsyncGenerator[str, None]:
        """The text as it grows, and now and then an empty one as a sign of life; `_response` is there at its end."""
        started = said = self._clock.monotonic()
        hearing = Hearing(listener, self._clock)
        # A key that was used before may have its answer already.
        heard = Heard(is_due=True)
        while True:
            for event in heard.events:
                if text := self._take(event):
                    said = self._clock.monotonic()
                    yield text
            if self._response is None and heard.may_end:
                await self._look_up()
            if self._response is not None:
                break
            now = self._clock.monotonic()
            if self._answers.is_draining or now - started >= self._timeout_seconds:
                raise too_late(self.request_id, is_draining=self._answers.is_draining)
            if now - said > sse.KEEP_ALIVE_SECONDS:
                said = now
                yield ""
            heard = await hearing.hear(at_most_seconds=started + self._timeout_seconds - now)
        output = self._response.output
        if output is not None and (rest := self._growing.finish(output.text)):
            yield rest

    def _take(self, event: Event) -> str:
        if isinstance(event, ResponseChunk):
            return self._growing.take(event)
        if isinstance(event, ResponseReady) and event.body:
            self._response = _decode(event.body)
        return ""

    async def _look_up(self) -> None:
        try:
            status = await self._answers.status(self._device_id, self.request_id)
        except (NotFoundError, UnavailableError):
            # Not yet, or not now; it is asked again until the time is up.
            return
        if status.response is not None:
            self._response = _decode(status.response)

    def _end(self, output: Output | None, error: Problem | None) -> list[bytes]:
        self.is_whole = True
        if output is None:
            return [_error(error or CANCELLED)]
        events = [self._chunk(Delta(), finish_reason=output.finish_reason)]
        if self._include_usage:
            events.append(self._event((), output.usage or Usage()))
        return [*events, _DONE]

    def _chunk(self, delta: Delta, *, finish_reason: str | None = None) -> bytes:
        return self._event((ChunkChoice(delta=delta, finish_reason=finish_reason),), None)

    def _event(self, choices: tuple[ChunkChoice, ...], usage: Usage | None) -> bytes:
        chunk = ChatCompletionChunk(
            id=f"chatcmpl-{self.request_id}",
            model=self._model,
            created=self._created,
            choices=choices,
            usage=usage,
        )
        return b"data: " + encode(chunk) + b"\n\n"


def _error(document: Problem) -> bytes:
    return b"data: " + encode(openai_error(document)) + b"\n\n"
