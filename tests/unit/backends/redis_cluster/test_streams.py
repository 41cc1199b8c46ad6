from fieldpost.backends.redis_cluster.streams import HEARTBEAT_SECONDS, Incoming, Message, Outgoing
from fieldpost.messages.events import CredentialsChanged

EVENTS = (CredentialsChanged(device_id=1),)


def _message(number: int, *, stream: bytes = b"s", age: float = 100.0, events: bool = True) -> Message:
    return Message(stream=stream, number=number, age_seconds=age, events=EVENTS if events else ())


def test_messages_in_order_are_handed_on_and_nothing_is_missing() -> None:
    incoming = Incoming(0.0)

    assert [(EVENTS, False)] * 3 == [incoming.hear(_message(number), 1.0) for number in (1, 2, 3)]


def test_a_number_left_out_is_a_loss_that_is_told_once() -> None:
    incoming = Incoming(0.0)
    incoming.hear(_message(1), 1.0)

    assert (EVENTS, True) == incoming.hear(_message(3), 1.0)
    assert (EVENTS, False) == incoming.hear(_message(4), 1.0)


def test_a_heartbeat_tells_that_the_last_message_is_missing() -> None:
    incoming = Incoming(0.0)
    incoming.hear(_message(1), 1.0)

    assert ((), False) == incoming.hear(_message(1, events=False), 2.0)
    assert ((), True) == incoming.hear(_message(2, events=False), 3.0)
    assert ((), False) == incoming.hear(_message(2, events=False), 4.0)


def test_what_comes_twice_or_too_late_is_dropped() -> None:
    incoming = Incoming(0.0)
    for number in (1, 3):
        incoming.hear(_message(number), 1.0)

    assert [((), False)] * 2 == [incoming.hear(_message(number), 1.0) for number in (3, 2)]


def test_who_comes_in_the_middle_of_a_stream_has_lost_nothing() -> None:
    incoming = Incoming(0.0)

    assert (EVENTS, False) == incoming.hear(_message(7, age=100.0), 50.0)
    assert (EVENTS, True) == incoming.hear(_message(9, age=101.0), 51.0)


def test_who_was_there_before_a_stream_began_and_hears_its_middle_has_lost_its_beginning() -> None:
    assert (EVENTS, True) == Incoming(0.0).hear(_message(2, age=10.0), 50.0)
    assert ((), True) == Incoming(0.0).hear(_message(1, age=10.0, events=False), 50.0)
    assert (EVENTS, False) == Incoming(0.0).hear(_message(1, age=10.0), 50.0)


def test_publishers_are_told_apart() -> None:
    incoming = Incoming(0.0)
    incoming.hear(_message(1, stream=b"a"), 1.0)

    assert (EVENTS, False) == incoming.hear(_message(1, stream=b"b"), 1.0)
    assert (EVENTS, False) == incoming.hear(_message(2, stream=b"a"), 1.0)


def test_streams_that_are_over_are_forgotten() -> None:
    incoming = Incoming(0.0)
    for number in range(1000):
        incoming.hear(_message(1, stream=b"%d" % number), float(number))

    assert len(incoming._heard) < 2 * sum(HEARTBEAT_SECONDS) + 2


def test_a_stream_repeats_its_number_ever_more_rarely_and_then_ends() -> None:
    outgoing = Outgoing(b"s", 0.0)
    outgoing.message(EVENTS, 0.0)

    times = [time for time in range(200) if outgoing.heartbeat(float(time)) is not None]
    assert [1, 2, 4, 8, 16, 32, 64] == times
    assert outgoing.is_over


def test_a_stream_that_fails_or_goes_on_repeats_its_number_anew() -> None:
    outgoing = Outgoing(b"s", 0.0)
    outgoing.message(EVENTS, 0.0)
    for time in (1.0, 2.0, 4.0):
        outgoing.heartbeat(time)
    outgoing.failed(5.0)

    assert outgoing.heartbeat(5.5) is None
    assert 1 == getattr(outgoing.heartbeat(6.0), "number", None)
    assert 2 == outgoing.message(EVENTS, 6.1).number
    assert outgoing.heartbeat(6.2) is None


def test_what_is_not_sent_is_noticed() -> None:
    outgoing, incoming = Outgoing(b"s", 0.0), Incoming(-10.0)
    incoming.hear(outgoing.message(EVENTS, 0.0), 0.0)
    outgoing.skip(0.0)

    heartbeat = outgoing.heartbeat(1.0)
    assert heartbeat is not None
    assert ((), True) == incoming.hear(heartbeat, 1.0)
