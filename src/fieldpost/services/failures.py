"""Tells of failed attempts in the log: the first of its sort at once, the same again as a number now and then.

A model that is set up wrongly fails every attempt; one line for each would fill the disk and hide everything else.
"""

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import ModelError, in_full
from fieldpost.messages.responses import Problem
from fieldpost.observability import get_logger
from fieldpost.ports.ledger_values import Claim

#: How often failures that were told already are told again, as a number.
EVERY_SECONDS = 30.0
#: Sorts told apart at once; reasons that differ each time (they may name the request) count as one sort past that.
MAX_SORTS = 20
#: Characters of a reason in the log; a model's server may say much more.
MAX_REASON = 500

log = get_logger()


class _Sort(msgspec.Struct, frozen=True):
    """What makes two failures the same; `reason` is empty for all that is past the bound."""

    problem_type: str
    reason: str = ""


class Failures:
    """One model's failed attempts in one worker."""

    def __init__(self, *, clock: Clock, model: str) -> None:
        self._clock = clock
        self._model = model
        #: How often each sort came again since it was told of last.
        self._again: dict[_Sort, int] = {}

    def note(self, claim: Claim, problem: Problem, cause: Exception) -> None:
        """An attempt failed.

        Args:
            cause: a model's error, whose data is for operators only; any other's traceback is logged.
        """
        reason = in_full(problem.title, problem.detail)[:MAX_REASON]
        sort = _Sort(problem.type, reason)
        if sort not in self._again and len(self._again) >= MAX_SORTS:
            sort = _Sort(problem.type)
        if sort in self._again:
            self._again[sort] += 1
            return
        self._again[sort] = 0
        is_expected = isinstance(cause, ModelError | TimeoutError)
        log.warning(
            "attempt_failed",
            model=self._model,
            request_id=str(claim.request.id),
            attempt=claim.attempt,
            reason=reason,
            **(cause.data if isinstance(cause, ModelError) else {}),
            **({} if is_expected else {"exc_info": cause}),
        )

    async def run(self) -> None:
        """Tells of what came again, until cancelled; a sort that did not is forgotten, so its next one is told at once."""
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            told, self._again = self._again, {}
            for sort, attempts in told.items():
                if attempts:
                    self._again[sort] = 0
                    log.warning(
                        "attempts_failed_again",
                        model=self._model,
                        attempts=attempts,
                        reason=sort.reason or f"{sort.problem_type}, for various reasons",
                        seconds=EVERY_SECONDS,
                    )
