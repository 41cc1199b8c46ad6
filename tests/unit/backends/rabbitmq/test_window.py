"""How many messages a consumer asks for, by their sizes."""

from fieldpost.backends.rabbitmq.window import Window


def _note(window: Window, count: int, size_bytes: int) -> None:
    for _ in range(count):
        window.note(size_bytes)


def test_it_begins_with_what_the_consumer_asks_for_and_the_protocol_allows() -> None:
    assert (400, 65_535) == (Window(400).messages, Window(100_000).messages)


def test_large_messages_make_it_fit_half_of_what_is_kept() -> None:
    window = Window(400)
    _note(window, 100, 10)

    window.narrow(100)

    assert 5 == window.messages


def test_it_halves_where_few_large_ones_hide_among_many_small_ones_and_is_never_nothing() -> None:
    window = Window(4)
    for expected in (2, 1, 1):
        _note(window, 1000, 1)
        window.narrow(100)
        assert expected == window.messages


def test_small_messages_widen_it_again_once_as_many_came() -> None:
    window = Window(400)
    _note(window, 100, 10)
    window.narrow(100)

    _note(window, 4, 1)
    assert not window.widen(100)
    _note(window, 1, 1)
    assert window.widen(100)

    assert 50 == window.messages


def test_a_little_smaller_is_not_worth_the_change() -> None:
    window = Window(400)
    _note(window, 100, 10)
    window.narrow(100)

    _note(window, 10, 6)

    assert not window.widen(100)
    assert 5 == window.messages
