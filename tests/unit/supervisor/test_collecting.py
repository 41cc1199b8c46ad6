"""Collections of garbage are seldom while a process serves, and as before when it has stopped."""

import gc

from fieldpost.supervisor.collecting import seldom


def test_what_is_there_is_left_alone_and_all_is_as_before_afterwards() -> None:
    before = gc.get_threshold()

    with seldom():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > before[0]

    assert (before, 0) == (gc.get_threshold(), gc.get_freeze_count())


def test_cycles_that_come_later_are_found() -> None:
    class Node:
        other: "Node"

    with seldom():
        one, other = Node(), Node()
        one.other, other.other = other, one
        del one, other

        assert gc.collect() >= 2
