"""A model: a named AI backend that answers one question at a time per call."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from fieldpost.messages.requests import ChatMessage
from fieldpost.messages.responses import Output, Source

#: Takes the next piece of the answer's text; awaiting it is the back-pressure.
Emit = Callable[[str], Awaitable[None]]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked; `parameters` are sampling parameters by their OpenAI names."""

    messages: Sequence[ChatMessage]
    parameters: dict[str, Any] = {}
    timeout_seconds: float
    #: W3C trace context, for servers that take it.
    traceparent: str = ""


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a document, quoted as it stands there."""

    text: str
    source: Source


class Model(Protocol):
    """Cancel: safe, and stops the work."""

    async def answer(self, question: Question, emit: Emit) -> Output:
        """Answers; the pieces given to `emit`, joined, are the beginning of the output's text, usually all of it.

        Raises:
            ModelUnavailableError: another attempt may succeed (its `retry_after_seconds` at the earliest).
            ModelRefusedError: no attempt will.
        """
        ...


class Library(Protocol):
    """Documents that can be searched; the out-of-the-box model and the context of others."""

    async def search(self, text: str, *, limit: int) -> Sequence[Passage]:
        """The best passages for a question, best first; none when nothing fits."""
        ...

    async def refresh(self) -> int:
        """Takes up documents that were added, changed or removed; returns how many."""
        ...
