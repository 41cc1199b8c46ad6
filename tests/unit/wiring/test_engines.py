"""Which engine a URL's scheme means; that it was asked is seen by what it says to the rest of the URL."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fieldpost.errors import ConfigError
from fieldpost.settings import load
from fieldpost.wiring.engines import open_engines
from tests.support.clock import FakeClock


@pytest.mark.parametrize(
    ("section", "url", "said"),
    [
        ("broker", "amqp://host:none", "broker.url: host 1 is not"),
        ("broker", "amqps://host:none", "broker.url: host 1 is not"),
        ("shared", "redis://one,two", "takes one host"),
        ("shared", "rediss://one,two", "takes one host"),
        ("shared", "redis-cluster://host:none", "shared.url: host 1 is not"),
        ("shared", "rediss-cluster://host:none", "shared.url: host 1 is not"),
        ("broker", "kafka://host", "broker.url: unknown scheme; known are amqp, amqps"),
        ("shared", "valkey://host", "shared.url: unknown scheme; known are redis-cluster"),
        ("shared", "127.0.0.1:6379", "shared.url: unknown scheme"),
    ],
)
async def test_a_url_goes_to_the_engine_of_its_scheme(tmp_path: Path, section: str, url: str, said: str) -> None:
    settings = load({}, overrides={"data": {"directory": str(tmp_path)}, section: {"url": url}})

    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError) as refused:
            await open_engines(settings, FakeClock(), models=[], instance="one", stack=stack)

    assert said in str(refused.value)
