"""One of the two tables that turn errors into outcomes: what becomes of a message. The other is `web.problems`."""

from enum import StrEnum

from fieldpost import errors


class Outcome(StrEnum):
    """What a consumer does with a message whose handling failed."""

    #: Put it back and wait: the reason will pass.
    REQUEUE = "requeue"
    #: Keep it with its reason, and forget it: it would fail the same way again.
    DEAD_LETTER = "dead_letter"


#: The most specific class that stands here decides; what is not ours may be a passing fault of ours.
OUTCOMES: dict[type[Exception], Outcome] = {
    errors.CorruptDataError: Outcome.DEAD_LETTER,
    errors.RejectedError: Outcome.DEAD_LETTER,
    errors.FieldpostError: Outcome.REQUEUE,
    Exception: Outcome.REQUEUE,
}


def outcome_of(error: Exception) -> Outcome:
    """What to do with the message."""
    return next(OUTCOMES[cls] for cls in type(error).__mro__ if cls in OUTCOMES)
