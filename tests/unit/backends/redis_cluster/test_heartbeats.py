from itertools import pairwise

from fieldpost.backends.redis_cluster.heartbeats import Heartbeats
from fieldpost.backends.redis_cluster.streams import HEARTBEAT_SECONDS, Message
from fieldpost.messages.events import CredentialsChanged

EVENTS = (CredentialsChanged(device_id=1),)


def _due(heartbeats: Heartbeats, now: float, limit: int = 1_000) -> list[tuple[str, int]]:
    return [(channel, message.number) for channel, message in heartbeats.due(now, limit)]


def test_every_stream_repeats_its_number_at_its_own_times_and_is_then_forgotten() -> None:
    heartbeats = Heartbeats()
    heartbeats.message("a", EVENTS, 0.0)
    heartbeats.message("b", EVENTS, 0.5)
    heartbeats.message("b", EVENTS, 0.5)

    told = [(now / 2, due) for now in range(200) if (due := _due(heartbeats, now / 2))]

    assert [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0] == [now for now, due in told if due == [("a", 1)]]
    assert [1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5] == [now for now, due in told if due == [("b", 2)]]
    assert 1 == heartbeats.message("b", EVENTS, 100.0).number


def test_a_message_puts_a_stream_that_rests_long_back_to_the_beginning() -> None:
    heartbeats = Heartbeats()
    heartbeats.message("a", EVENTS, 0.0)
    for now in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
        _due(heartbeats, now)
    heartbeats.message("a", EVENTS, 33.0)
    heartbeats.message("a", EVENTS, 33.5)

    assert not _due(heartbeats, 34.0)
    assert [("a", 3)] == _due(heartbeats, 34.5)
    assert not _due(heartbeats, 35.0)


def test_no_more_are_told_at_once_than_asked_for_and_none_is_left_out() -> None:
    heartbeats = Heartbeats()
    for number in range(25):
        heartbeats.message(f"{number}", EVENTS, 0.0)

    rounds = [_due(heartbeats, 1.0, 10) for _ in range(4)]

    assert [10, 10, 5, 0] == [len(due) for due in rounds]
    assert 25 == len({channel for due in rounds for channel, _ in due})


def test_a_last_number_that_was_not_sent_is_told_anew() -> None:
    heartbeats = Heartbeats()
    first = heartbeats.message("a", EVENTS, 0.0)
    last: Message | None = None
    now = 0.0
    for seconds in HEARTBEAT_SECONDS:
        now += seconds
        ((_, last),) = heartbeats.due(now, 1)
    heartbeats.failed("a", now)

    assert last is not None
    assert [("a", 1)] == _due(heartbeats, now + 1.0)
    assert first.stream == last.stream
    assert 2 == heartbeats.message("a", EVENTS, now + 2.0).number


def test_who_is_not_due_is_not_looked_at() -> None:
    class Number(str):
        __slots__ = ()
        looks = 0

        def __hash__(self) -> int:
            Number.looks += 1
            return super().__hash__()

    def looks(streams: int) -> int:
        heartbeats = Heartbeats()
        for number in range(streams):
            heartbeats.message(Number(number), EVENTS, 0.0)
        Number.looks = 0
        assert not _due(heartbeats, 0.5)
        assert 3 == len(_due(heartbeats, 1.0, 3))
        return Number.looks

    counts = [looks(streams) for streams in (10, 1_000)]
    assert all(fewer == more for fewer, more in pairwise(counts))
