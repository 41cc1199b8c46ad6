"""Reading an engine's URL: whatever was said comes back, and nothing of a password comes out."""

import string
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fieldpost.backends.addresses import Node, Parts, read, scheme_of
from fieldpost.backends.rabbitmq.address import parse_address
from fieldpost.backends.redis_cluster.address import parse_url
from fieldpost.errors import ConfigError

PORTS = {"here": 7, "there": 8}
#: No part of it stands in any message.
SECRET = "qZ7xW9"
#: Whatever Unicode can be encoded.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
HOSTS = st.one_of(
    st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=12),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
NODES = st.tuples(HOSTS, st.none() | st.integers(1, 65_535))


def _read(url: str) -> Parts:
    return read(url, setting="engine.url", ports=PORTS)


def _written(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


@given(st.sampled_from(list(PORTS)), TEXTS, TEXTS, st.lists(NODES, min_size=1, max_size=4), TEXTS)
def test_what_was_written_is_read(
    scheme: str, user: str, password: str, nodes: list[tuple[str, int | None]], path: str
) -> None:
    hosts = ",".join(_written(*node) for node in nodes)
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"

    parts = _read(f"{scheme}://{credentials}@{hosts}/{quote(path, safe='')}")

    expected = tuple(Node(host, PORTS[scheme] if port is None else port) for host, port in nodes)
    assert (scheme, user, password, path) == (parts.scheme, parts.user, parts.password, parts.path)
    assert expected == parts.nodes
    assert expected == _read(f"{scheme}://{','.join(map(str, expected))}").nodes


@given(st.lists(st.sampled_from(["here://", "user", SECRET, "%2F", "host", "1", "[::1]", *":@/?#,[]% é"]), max_size=12))
@example(["here://", "user", ":", "1", "/", SECRET, "@", "host"])
@example(["here://", "user", ":", SECRET, "/", "1", "@", "host"])
@example(["here://", "user", ":", SECRET, "@"])
@example(["here://", "user", ":", SECRET])
@example([SECRET, "://", "host"])
@example(["user", ":", SECRET, "@", "host"])
@pytest.mark.parametrize("engine", ["any", "amqp", "amqps", "redis", "redis-cluster"])
def test_nothing_of_a_url_that_cannot_be_read_is_repeated(engine: str, words: list[str]) -> None:
    url, told = "".join(words), ""
    try:
        if engine == "any":
            _read(url)
        elif engine.startswith("amqp"):
            parse_address(url.replace("here://", f"{engine}://"))
        else:
            parse_url(url.replace("here://", f"{engine}://"))
    except ConfigError as error:
        told = f"{error} {error.__cause__}"

    assert SECRET not in told


@given(TEXTS)
def test_a_password_that_was_read_is_not_shown(path: str) -> None:
    rest = f"user:{SECRET}@host:1"
    found = (
        _read(f"here://{rest}/{quote(path, safe='')}"),
        parse_address(f"amqp://{rest}/{quote(path, safe='')}"),
        parse_url(f"redis://{rest}"),
    )

    assert [SECRET] * 3 == [address.password for address in found]
    assert SECRET not in f"{found!r}{''.join(map(str, found))}"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nowhere://host", "engine.url begins with none of here://, there://"),
        ("host:1", "engine.url begins with none of here://, there://"),
        ("here://", "host 1 is not of the form host:port"),
        ("here://a:1,,b:1", "host 2 is not"),
        ("here://a:1,b:0", "host 2 is not"),
        ("here://a:65536", "host 1 is not"),
        ("here://a:²", "host 1 is not"),
        ("here://a b", "host 1 is not"),
        ("here://::1:7", "host 1 is not"),
        ("here://[::1", "host 1 is not"),
        ("here://[::1]7", "host 1 is not"),
        ("here://[one]:7", "host 1 is no IPv6 address"),
        ("here://user:a/b@host", "/ is written %2F"),
        ("here://user:%ff@host", "is not UTF-8"),
    ],
)
def test_what_is_wrong_is_told(url: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _read(url)

    assert told in str(refused.value)


def test_a_scheme_is_read_in_any_letters_and_is_none_where_none_stands() -> None:
    assert ("redis", "", "") == (scheme_of("Redis://host"), scheme_of("host:1"), scheme_of(""))


def test_a_user_is_none_an_empty_one_or_one_without_a_password() -> None:
    found = [_read(f"here://{credentials}host") for credentials in ("", "@", "me@", ":word@", "me:@", "m@e:w@rd@")]

    assert [(None, None), ("", None), ("me", None), ("", "word"), ("me", ""), ("m@e", "w@rd")] == [
        (parts.user, parts.password) for parts in found
    ]
