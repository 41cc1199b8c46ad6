"""What a workload was promised and what it got, and the pure checker that compares the two.

The classes are those of queue checkers in the field: lost, duplicated, unexpected; a call whose outcome is unknown
promises nothing, but an answer to it is welcome.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a device saw. `device` scopes sessions, `request` is an id, `answer` what came for it.

    `accepted`: a `202` or `Accepted`. `unknown`: no reply, the request may be there. `delivered`: an answer came.
    `acked`: `Acked` came for it.
    """

    kind: Literal["accepted", "unknown", "delivered", "acked"]
    device: int
    request: str
    answer: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Ids by what is wrong with them; all empty when the promises were kept."""

    lost: Sequence[str] = ()
    #: Two different final answers.
    contradicted: Sequence[str] = ()
    #: Delivered again after `Acked`.
    repeated: Sequence[str] = ()
    #: Answers to what this device never posted.
    unexpected: Sequence[str] = ()

    @property
    def is_kept(self) -> bool:
        return not (self.lost or self.contradicted or self.repeated or self.unexpected)


def check(history: Sequence[Event]) -> Verdict:
    """Compares promises with deliveries; the order of `history` is the order in which things were seen."""
    posted: set[tuple[int, str]] = set()
    accepted: dict[str, None] = {}
    answers: defaultdict[str, set[str]] = defaultdict(set)
    acked: set[str] = set()
    repeated: dict[str, None] = {}
    unexpected: dict[str, None] = {}
    for event in history:
        match event.kind:
            case "accepted":
                posted.add((event.device, event.request))
                accepted[event.request] = None
            case "unknown":
                posted.add((event.device, event.request))
            case "delivered":
                answers[event.request].add(event.answer)
                if event.request in acked:
                    repeated[event.request] = None
                if (event.device, event.request) not in posted:
                    unexpected[event.request] = None
            case "acked":
                acked.add(event.request)
    return Verdict(
        lost=[request for request in accepted if request not in answers],
        contradicted=[request for request, different in answers.items() if len(different) > 1],
        repeated=list(repeated),
        unexpected=list(unexpected),
    )
