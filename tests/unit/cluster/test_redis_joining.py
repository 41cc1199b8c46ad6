"""Whom nodes follow that are in no cluster yet; that they do is shown in tests/integration."""

from fieldpost.cluster.engines.redis_joining import View, lone, read_view


def _view(number: int, *, master: int = 0, has_slots: bool = False) -> View:
    return View(id=f"id{number}", master=f"id{master}" if master else "", has_slots=has_slots, known=frozenset())


def test_lone_nodes_follow_the_masters_that_have_fewest_and_nobody_else_moves() -> None:
    masters = {number: _view(number, has_slots=True) for number in (1, 2, 3)}
    followers = {4: _view(4, master=1), 5: _view(5, master=1), 6: _view(6, master=3)}
    alone = {number: _view(number) for number in (7, 8, 9)}

    assert lone({**masters, **followers, **alone}) == {7: 2, 8: 2, 9: 3}
    assert lone({**masters, **followers}) == {}


def test_where_nobody_has_slots_nobody_is_followed() -> None:
    assert lone({1: _view(1), 2: _view(2)}) == {}


def test_a_node_tells_who_it_is_and_whom_it_has_met() -> None:
    others = "bbb 127.0.0.1:3@4 master - 0 1 2 connected 5461-10922\nccc 127.0.0.1:5@6 handshake - 0 0 0 connected\n"

    master = read_view(f"{others}aaa 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-5460\n")
    replica = read_view(f"aaa 127.0.0.1:1@2 myself,slave bbb 0 0 1 connected\n{others}")
    alone = read_view("aaa :1@2 myself,master - 0 0 0 connected\n")

    assert master == View(id="aaa", master="", has_slots=True, known=frozenset({"aaa", "bbb"}))
    assert replica == View(id="aaa", master="bbb", has_slots=False, known=frozenset({"aaa", "bbb"}))
    assert alone == View(id="aaa", master="", has_slots=False, known=frozenset({"aaa"}))
