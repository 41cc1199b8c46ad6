"""What the fleet sent and what came of it, as it happens: the history for the checker, and numbers for the table.

Grows with every request, so a fleet stops asking at `MAX_REQUESTS`.
"""

import re
from collections import Counter, deque
from typing import Literal
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.fleet.history import Event
from fieldpost.fleet.roster import Member
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.identity import body_hash
from fieldpost.messages.requests import Channel, RequestState
from fieldpost.messages.responses import Response

#: Requests that one run remembers, about a kilobyte each.
MAX_REQUESTS = 50_000
#: Exchanges kept to be shown.
_LATEST = 3
#: Characters of an answer that are shown.
_MAX_SHOWN = 200
#: Marks of Markdown: quotes, list items, headings, the lines of tables.
_MARKS = re.compile(r"^[>\s]*([-#*]+\s)?|[|]|-{3,}|[*`]")

Group = tuple[DeviceKind, Channel]

_encode = msgspec.json.Encoder().encode


class Post:
    """One request on its way; changed only by the journal."""

    __slots__ = (
        "absences",
        "is_acked",
        "is_answered",
        "is_known",
        "is_refused",
        "member",
        "name",
        "question",
        "request",
        "sent_at",
    )

    def __init__(self, member: Member, request: str, name: str, question: str, sent_at: float, absences: int) -> None:
        self.member = member
        #: As in the history.
        self.request = request
        #: Its idempotency key, or its file's name.
        self.name = name
        self.question = question
        self.sent_at = sent_at
        self.absences = absences
        self.is_known = False
        self.is_refused = False
        self.is_answered = False
        self.is_acked = False

    @property
    def id(self) -> UUID:
        """The request's id on the doors that know it from the start."""
        return UUID(self.request)

    @property
    def is_closed(self) -> bool:
        """Nothing more is to be done for it."""
        return self.is_refused or (self.is_answered and self.is_acked)


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A question and its answer, to be shown."""

    name: str
    door: Channel
    question: str
    answer: str


class Journal:
    """One fleet's; everything in it happens in one event loop."""

    def __init__(self, *, clock: Clock) -> None:
        self.history: list[Event] = []
        self.sent: Counter[Group] = Counter()
        self.answered: Counter[Group] = Counter()
        self.refused: Counter[Group] = Counter()
        self.reasons: Counter[str] = Counter()
        #: Answers that say why there is none.
        self.failed = 0
        #: Answers that came to a device that had been away since it asked.
        self.late = 0
        self.reconnects = 0
        #: Seconds from asking to the answer in hand, of the others.
        self.latencies: dict[Channel, list[float]] = {door: [] for door in Channel}
        self.away: set[int] = set()
        self.latest: deque[Exchange] = deque(maxlen=_LATEST)
        self._clock = clock
        self._posts: dict[str, Post] = {}
        self._open: dict[str, Post] = {}
        self._absences: Counter[int] = Counter()

    @property
    def is_full(self) -> bool:
        """No further request fits."""
        return len(self._posts) >= MAX_REQUESTS

    @property
    def is_answered(self) -> bool:
        """Every request is refused or answered."""
        return all(post.is_answered for post in self._open.values())

    @property
    def is_acknowledged(self) -> bool:
        """Every answer in hand is acknowledged."""
        return not any(post.is_answered for post in self._open.values())

    def open_posts(self, member: Member) -> list[Post]:
        """What this device has not finished, oldest first."""
        return [post for post in self._open.values() if post.member is member]

    def left(self, member: Member) -> None:
        """A device dropped off."""
        self.away.add(member.device_id)
        self._absences[member.device_id] += 1

    def returned(self, member: Member) -> None:
        """A device came back."""
        self.away.discard(member.device_id)
        self.reconnects += 1

    def asked(self, member: Member, *, request: str, name: str, question: str) -> Post:
        """A request leaves; from here on the server may have it, although it never says so."""
        absences = self._absences[member.device_id]
        post = Post(member, request, name, question, self._clock.monotonic(), absences)
        self._posts[request] = self._open[request] = post
        self.sent[_group(member)] += 1
        self._see("unknown", member, request)
        return post

    def accepted(self, post: Post) -> None:
        """The server says that it has the request."""
        if not post.is_known:
            post.is_known = True
            self._see("accepted", post.member, post.request)

    def refused_for(self, post: Post, reason: str) -> None:
        """The server says that it does not have the request."""
        if post.is_closed or post.is_answered:
            return
        post.is_refused = True
        self.refused[_group(post.member)] += 1
        self.reasons[reason] += 1
        self._close(post)

    def delivered(self, member: Member, request: str, response: Response) -> Post | None:
        """An answer is in a device's hands, for the first time or again; None if nothing was asked."""
        self._see("delivered", member, request, body_hash(_encode(response)).hex())
        post = self._posts.get(request)
        if post is not None and not post.is_answered:
            post.is_answered = True
            post.is_known = True
            self._count(post, response)
            self._close(post)
        return post

    def acked(self, post: Post) -> None:
        """The server says that this answer does not come again."""
        if not post.is_acked:
            post.is_acked = True
            self._see("acked", post.member, post.request)
            self._close(post)

    def kept(self, post: Post) -> None:
        """The answer stands in the device's folder, where nothing is acknowledged."""
        post.is_acked = True
        self._close(post)

    def _count(self, post: Post, response: Response) -> None:
        place = post.member.place
        self.answered[_group(post.member)] += 1
        self.failed += response.status is not RequestState.SUCCEEDED
        if post.absences != self._absences[post.member.device_id]:
            self.late += 1
        else:
            self.latencies[place.door].append(self._clock.monotonic() - post.sent_at)
        self.latest.append(Exchange(name=place.name, door=place.door, question=post.question, answer=_words(response)))

    def _close(self, post: Post) -> None:
        if post.is_closed:
            self._open.pop(post.request, None)

    def _see(
        self, kind: Literal["accepted", "unknown", "delivered", "acked"], member: Member, request: str, answer: str = ""
    ) -> None:
        self.history.append(Event(kind=kind, device=member.device_id, request=request, answer=answer))


def _group(member: Member) -> Group:
    return member.place.kind, member.place.door


def _words(response: Response) -> str:
    """What the answer says, on one line: of a quoted document what it says, without its marks."""
    if response.output is None:
        return response.error.title if response.error else response.status.value
    lines = response.output.text.splitlines()
    quoted = [line for line in lines if line.startswith(">")] or lines
    return " ".join(" ".join(_MARKS.sub(" ", line) for line in quoted).split())[:_MAX_SHOWN]
