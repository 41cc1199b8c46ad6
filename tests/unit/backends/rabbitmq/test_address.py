"""Reading a RabbitMQ's URL."""

import pytest

from fieldpost.backends.addresses import Node
from fieldpost.backends.rabbitmq.address import Address, parse_address
from fieldpost.errors import ConfigError


def test_every_node_of_a_url_is_read() -> None:
    expected = Address(
        nodes=(Node("one", 5672), Node("10.0.0.2", 1234), Node("::1", 5673)),
        user="post man",
        password="p@ss:/word",
        vhost="field/post",
        is_encrypted=False,
    )

    assert expected == parse_address("amqp://post%20man:p%40ss:%2Fword@one,10.0.0.2:1234,[::1]:5673/field%2Fpost")


def test_what_is_not_said_is_rabbitmqs_own_default() -> None:
    expected = Address(nodes=(Node("one", 5671),), user="guest", password="guest", vhost="/", is_encrypted=True)

    assert expected == parse_address("amqps://one")
    assert expected == parse_address("amqps://one/")


@pytest.mark.parametrize(
    "url",
    ["", "http://one", "one:5672", "amqp://", "amqp://user:secret@", "amqp://user:secret@one:port", "amqp://a,,b"],
)
def test_anything_else_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(url)

    assert "secret" not in str(caught.value)
