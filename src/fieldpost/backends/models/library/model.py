"""The model that answers out of the box: the best passages of the library, quoted, with file and heading."""

from collections.abc import Sequence

from fieldpost.backends.models.library.query import words_of
from fieldpost.errors import BackendUnavailableError, ModelUnavailableError
from fieldpost.messages.responses import Output
from fieldpost.ports.models import Emit, Library, Passage, Question


class LibraryModel:
    """Answers by quoting; says nothing of its own."""

    def __init__(self, library: Library, *, passages: int) -> None:
        self._library = library
        self._passages = passages

    async def answer(self, question: Question, emit: Emit) -> Output:
        """Searches for the last message."""
        text = question.messages[-1].content
        try:
            passages = await self._library.search(text, limit=self._passages)
        except BackendUnavailableError as error:
            raise ModelUnavailableError(error.detail, retry_after_seconds=error.retry_after_seconds) from error
        blocks = _blocks(passages) if passages else [_nothing(text)]
        for block in blocks:
            await emit(block)
        return Output(text="".join(blocks), sources=tuple(passage.source for passage in passages))


def _blocks(passages: Sequence[Passage]) -> list[str]:
    blocks: list[str] = []
    for number, passage in enumerate(passages):
        quoted = "\n".join(f"> {line}".rstrip() for line in passage.text.split("\n"))
        place = f"{passage.source.file}, {passage.source.heading}" if passage.source.heading else passage.source.file
        separator = "\n\n" if number else ""
        blocks.append(f"{separator}From {place}:\n\n{quoted}")
    return blocks


def _nothing(text: str) -> str:
    words = words_of(text)
    if not words:
        return "Nothing found in the library: the question has no words to look for."
    return f"Nothing found in the library for: {', '.join(words)}."
