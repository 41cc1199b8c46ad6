"""An answer in pieces, for a listener that cannot take pieces back: only ever a growing beginning of one answer."""

from fieldpost.messages.events import ResponseChunk


class AttemptChangedError(Exception):
    """Another attempt began after something of the first was handed on."""


class Growing:
    """What of an answer has been handed on, and what may be next.

    Pieces of an attempt from which nothing was handed on are dropped unseen; a missing piece stops the handing on until
    the whole answer is there.
    """

    def __init__(self) -> None:
        self.text = ""
        self._attempt = 0
        self._has_gap = False

    def take(self, chunk: ResponseChunk) -> str:
        """The text to hand on now, perhaps none.

        Raises:
            AttemptChangedError: what was handed on belongs to an attempt that is over.
        """
        if chunk.attempt < self._attempt:
            return ""
        if chunk.attempt > self._attempt:
            if self.text:
                raise AttemptChangedError
            self._attempt = chunk.attempt
            self._has_gap = False
        if self._has_gap or chunk.offset != len(self.text):
            self._has_gap = self._has_gap or chunk.offset > len(self.text)
            return ""
        self.text += chunk.text
        return chunk.text

    def finish(self, whole: str) -> str:
        """The rest of the answer.

        Raises:
            AttemptChangedError: the answer does not begin with what was handed on.
        """
        if not whole.startswith(self.text):
            raise AttemptChangedError
        rest = whole[len(self.text) :]
        self.text = whole
        return rest
