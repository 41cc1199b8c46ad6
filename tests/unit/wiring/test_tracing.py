"""Whom spans are told to."""

import sys
from contextlib import AsyncExitStack

import pytest

from fieldpost.clock import SystemClock
from fieldpost.errors import ConfigError
from fieldpost.ports.tracing import Tracer
from fieldpost.settings import Settings, TracingSettings
from fieldpost.tracing import Untraced
from fieldpost.wiring.tracing import choose_tracer


async def _chosen(endpoint: str) -> Tracer:
    settings = Settings(tracing=TracingSettings(endpoint=endpoint))
    async with AsyncExitStack() as stack:
        return await choose_tracer(settings, SystemClock(), stack, instance="one")


async def test_without_an_endpoint_nobody_is_told_and_what_came_goes_on() -> None:
    tracer = await _chosen("")

    assert isinstance(tracer, Untraced)
    with tracer.span("accept", "as it came") as carried:
        assert carried == "as it came"


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://"])
async def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"tracing\.endpoint"):
        await _chosen(endpoint)


async def test_an_endpoint_without_the_extra_is_refused_and_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "fieldpost.backends.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(ConfigError, match=r"pip install 'fieldpost\[otel\]'"):
        await _chosen("http://127.0.0.1:4318/v1/traces")
