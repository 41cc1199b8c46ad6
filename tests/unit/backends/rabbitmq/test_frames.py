"""What is written by hand, read back by pamqp."""

import pamqp.frame
import pytest
from pamqp import body, header

from fieldpost.backends.rabbitmq import frames

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("traceparent", ["", TRACEPARENT])
def test_a_message_is_persistent_has_its_number_and_its_trace(traceparent: str) -> None:
    data = b"".join(frames.content(3, 0x2A, b"hello", 4096, traceparent))

    size, channel, head = pamqp.frame.unmarshal(data)
    _, _, content = pamqp.frame.unmarshal(data[size:])

    assert isinstance(head, header.ContentHeader)
    assert isinstance(content, body.ContentBody)
    assert (3, 5, b"hello") == (channel, head.body_size, content.value)
    assert (2, f"{0x2A:016x}") == (head.properties.delivery_mode, head.properties.message_id)
    assert (head.properties.headers or {}) == ({"traceparent": traceparent} if traceparent else {})
    # As it comes back when no queue takes it.
    payload = data[7 : size - 1]
    assert (5, 0x2A) == (frames.read_header(payload), frames.read_number(payload))
