import pytest

from fieldpost.backends.addresses import Node
from fieldpost.backends.redis_cluster.address import Address, parse_url
from fieldpost.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", Address(nodes=(Node("h", 6379),), is_cluster=False)),
        ("redis://[::1]", Address(nodes=(Node("::1", 6379),), is_cluster=False)),
        ("redis://[::1]:7/", Address(nodes=(Node("::1", 7),), is_cluster=False)),
        ("redis-cluster://a:1,b:2", Address(nodes=(Node("a", 1), Node("b", 2)), is_cluster=True)),
        (
            "rediss-cluster://me:a%40b@h:1",
            Address(nodes=(Node("h", 1),), is_cluster=True, is_encrypted=True, user="me", password="a@b"),
        ),
        ("redis://:secret@h:1", Address(nodes=(Node("h", 1),), is_cluster=False, password="secret")),
    ],
)
def test_urls_say_where_redis_is(url: str, expected: Address) -> None:
    assert expected == parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis://",
        "redis://a:1,b:2",
        "redis-cluster://a:1,",
        "redis://h:x",
        "redis://h:0",
        "redis://h:²",
        "redis://h/0",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"shared\.url"):
        parse_url(url)


def test_a_password_is_kept_out_of_the_message() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_url("redis://me:secret@h:x")

    assert "secret" not in str(refused.value)
