"""What a line of the log says by itself."""

import asyncio
from uuid import uuid4

from fieldpost.observability import add_handled, handling

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _line(**fields: object) -> dict[str, object]:
    return dict(add_handled(None, "info", {"event": "something", **fields}))


def test_a_line_names_the_request_its_trace_and_its_attempt() -> None:
    request_id = uuid4()

    with handling(request_id, TRACEPARENT, 2):
        inside = _line()
    outside = _line()

    assert {
        "event": "something",
        "request_id": str(request_id),
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "attempt": 2,
    } == inside
    assert {"event": "something"} == outside


def test_a_line_names_no_attempt_before_the_first_and_no_trace_where_there_is_none() -> None:
    request_id = uuid4()

    with handling(request_id, ""):
        assert {"event": "something", "request_id": str(request_id)} == _line()


def test_what_a_line_says_itself_stands() -> None:
    with handling(uuid4(), TRACEPARENT):
        assert _line(request_id="another")["request_id"] == "another"


async def test_tasks_that_handle_several_requests_at_once_are_not_confused() -> None:
    request_ids = [uuid4() for _ in range(5)]

    async def handle(number: int) -> object:
        with handling(request_ids[number], TRACEPARENT):
            await asyncio.sleep(0)
            return _line()["request_id"]

    assert [str(request_id) for request_id in request_ids] == await asyncio.gather(*map(handle, range(5)))
