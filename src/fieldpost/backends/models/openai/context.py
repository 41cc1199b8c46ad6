"""The library's passages as context of a question: data in the first system message, never instructions."""

from collections.abc import Sequence
from importlib import resources

import msgspec

from fieldpost.errors import BackendUnavailableError, ModelUnavailableError
from fieldpost.messages.requests import ChatMessage
from fieldpost.ports.models import Library, Passage


class Context:
    """Looks up what the last message asks for."""

    def __init__(self, library: Library, *, passages: int) -> None:
        self._library = library
        self._passages = passages
        self._preface = (resources.files("fieldpost") / "prompts" / "passages.md").read_text(encoding="utf-8")

    async def passages(self, messages: Sequence[ChatMessage]) -> Sequence[Passage]:
        """The best passages; none when nothing fits.

        Raises:
            ModelUnavailableError: the library is away; an answer without it would not be what the operator wants.
        """
        try:
            return await self._library.search(messages[-1].content, limit=self._passages)
        except BackendUnavailableError as error:
            raise ModelUnavailableError(error.detail, retry_after_seconds=error.retry_after_seconds) from error

    def add(self, passages: Sequence[Passage], messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
        """The conversation with the passages in it.

        They join a system message that is there: many models take only one, and only as the first.
        """
        if not passages:
            return messages
        text = f"{self._preface}\n{_as_data(passages)}"
        first = messages[0]
        if first.role in ("system", "developer"):
            return [ChatMessage(role=first.role, content=f"{first.content}\n\n{text}"), *messages[1:]]
        return [ChatMessage(role="system", content=text), *messages]


def _as_data(passages: Sequence[Passage]) -> str:
    """JSON: no text in it can end it."""
    quoted = [
        {"file": passage.source.file, "heading": passage.source.heading, "text": passage.text} for passage in passages
    ]
    return msgspec.json.format(msgspec.json.encode(quoted), indent=1).decode()
