"""What a window admits, whatever the order in which events, readings and acknowledgements come."""

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from fieldpost.roles.hub.window import Window

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))


def test_an_answer_is_admitted_once() -> None:
    window = Window(limit=2)

    assert [True, False] == [window.admit(ONE), window.admit(ONE)]
    assert (1, [ONE]) == (window.room, list(window.on_their_way))


def test_an_answer_beyond_the_limit_stays_behind_until_there_is_room() -> None:
    window = Window(limit=2)
    window.admit(ONE)
    window.admit(TWO)

    assert not window.admit(THREE)
    assert window.is_behind
    assert not window.wants_refill

    window.settle([ONE])
    assert window.wants_refill
    assert window.admit(THREE)


def test_a_settled_answer_is_never_admitted_again() -> None:
    window = Window(limit=2)
    window.admit(ONE)
    window.settle([ONE, TWO])

    assert [False, False] == [window.admit(ONE), window.admit(TWO)]
    assert [True, True] == [window.knows(ONE), window.knows(TWO)]
    assert not window.is_on_its_way(ONE)


def test_a_reading_older_than_what_is_remembered_proves_nothing() -> None:
    window = Window(limit=2, memory=2)
    mark = window.mark()
    window.settle([ONE, TWO, THREE])

    # One was settled, and forgotten since: what was read before that may be one.
    assert not window.admit(ONE, since=mark)
    assert window.is_behind
    assert window.admit(ONE, since=window.mark())


IDS = st.integers(0, 7).map(lambda number: UUID(int=number))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("settle"), IDS),
        st.tuples(st.just("read"), IDS),
        st.tuples(st.just("admit"), IDS),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 4), st.integers(1, 4))
def test_whatever_happens_nothing_settled_is_admitted_from_a_reading_and_the_limit_holds(
    steps: Sequence[tuple[str, UUID]], limit: int, memory: int
) -> None:
    window = Window(limit=limit, memory=memory)
    # A reading shows what was not settled when it was made; it is looked at later.
    readings: list[tuple[UUID, int]] = []
    settled: set[UUID] = set()
    for step, request_id in steps:
        if step == "settle":
            settled.add(request_id)
            window.settle([request_id])
        elif step == "read" and request_id not in settled:
            readings.append((request_id, window.mark()))
        elif step == "admit" and readings:
            read_id, mark = readings.pop(0)
            if window.admit(read_id, since=mark):
                assert read_id not in settled
        assert len(window.on_their_way) <= limit
        assert not settled & set(window.on_their_way)
