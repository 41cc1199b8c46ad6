"""A streamed completion as it comes in: what of its chunks is looked at, and the answer that grows from them.

Servers differ in what they leave out and send as null; what is of the wrong type is an error.
"""

from typing import Annotated

import msgspec

from fieldpost.errors import ModelRefusedError, ModelUnavailableError
from fieldpost.messages.responses import Output, Source, Usage

#: An answer is cut here, in UTF-8, and ends as one that reached its limit.
MAX_ANSWER_BYTES = 2**20
_MAX_REFUSAL_CHARACTERS = 500

Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the answer."""

    content: str | None = None
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of one of the answers."""

    index: int | None = None
    delta: Delta | None = None
    finish_reason: Annotated[str, msgspec.Meta(max_length=100)] | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the server counted."""

    prompt_tokens: Tokens = None
    completion_tokens: Tokens = None
    total_tokens: Tokens = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the stream."""

    choices: list[Choice] | None = None
    usage: Counts | None = None


class Reply:
    """Grows by chunks until it is whole."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._refusal = ""
        self._room_bytes = MAX_ANSWER_BYTES
        self._usage: Usage | None = None
        self._finish_reason = ""

    @property
    def is_whole(self) -> bool:
        """Whether the text is complete; what is counted may come after it."""
        return bool(self._finish_reason)

    @property
    def is_full(self) -> bool:
        """Whether there is room for nothing more."""
        return self._room_bytes < 0

    def take(self, chunk: Chunk) -> str:
        """The next piece of the text, perhaps none."""
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        piece = "".join(self._take_choice(choice) for choice in chunk.choices or () if not choice.index)
        if piece:
            self._pieces.append(piece)
        return piece

    def output(self, sources: tuple[Source, ...]) -> Output:
        """The answer.

        Raises:
            ModelUnavailableError: the stream ended before the text did.
            ModelRefusedError: it is a refusal.
        """
        if self.is_full:
            self._finish_reason = "length"
        if not self.is_whole:
            raise ModelUnavailableError("the answer broke off")
        if self._refusal and not self._pieces:
            raise ModelRefusedError(self._refusal)
        return Output(text="".join(self._pieces), finish_reason=self._finish_reason, sources=sources, usage=self._usage)

    def _take_choice(self, choice: Choice) -> str:
        self._finish_reason = self._finish_reason or choice.finish_reason or ""
        if choice.delta is None:
            return ""
        self._refusal = (self._refusal + (choice.delta.refusal or ""))[:_MAX_REFUSAL_CHARACTERS]
        # Halves of letters that JSON can name and UTF-8 cannot become question marks.
        encoded = (choice.delta.content or "").encode("utf-8", errors="replace")
        kept = encoded[: max(0, self._room_bytes)].decode("utf-8", errors="ignore")
        self._room_bytes -= len(encoded)
        return kept


def _usage(counts: Counts) -> Usage:
    prompt_tokens, completion_tokens = counts.prompt_tokens or 0, counts.completion_tokens or 0
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=counts.total_tokens or prompt_tokens + completion_tokens,
    )
