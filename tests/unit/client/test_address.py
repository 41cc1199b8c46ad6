"""Where a client looks for its server, and how it keeps its key to itself."""

import pytest

from fieldpost.client import AsyncClient, Client
from fieldpost.client.address import find
from fieldpost.errors import ConfigError, UnauthenticatedError

KEY = "fp_17_0123456789abcdefSECRET"


def test_a_key_tells_its_device() -> None:
    assert 17 == find("http://127.0.0.1:5000", KEY).device_id


@pytest.mark.parametrize(
    ("url", "stream_url"),
    [
        ("http://127.0.0.1:5000", "ws://127.0.0.1:5000/v1/stream"),
        ("https://post.example/", "wss://post.example/v1/stream"),
        ("http://httpd:80/fieldpost", "ws://httpd:80/fieldpost/v1/stream"),
    ],
)
def test_the_stream_lies_beside_the_calls(url: str, stream_url: str) -> None:
    assert stream_url == find(url, KEY).stream_url


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:5000", "localhost", "ftp://x", "http://", "http://x:port", "http://x\n", "http://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        find(url or "x", KEY)


@pytest.mark.parametrize(
    "key", ["wrong", "fp_0_0123456789abcdef", "fp_1_short", "fpa_operator_0123456789abcdef", "fp_1_ü" * 5]
)
def test_what_cannot_be_a_devices_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        find("http://x", key)
    assert key not in str(caught.value)


def test_what_is_not_given_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDPOST_URL", "http://10.0.0.1:80")
    monkeypatch.setenv("FIELDPOST_KEY", KEY)

    assert ("http://10.0.0.1:80", KEY) == (find().url, find().key)
    assert "http://x" == find("http://x").url


async def test_a_client_shows_where_it_is_and_not_its_key() -> None:
    async with AsyncClient("http://127.0.0.1:1", KEY) as client:
        with Client("http://127.0.0.1:1", KEY) as blocking:
            shown = [repr(client), repr(blocking), repr(find("http://127.0.0.1:1", KEY))]

    assert shown[:2] == ["AsyncClient(http://127.0.0.1:1, device 17)", "Client(http://127.0.0.1:1, device 17)"]
    assert not any("SECRET" in text for text in shown)
