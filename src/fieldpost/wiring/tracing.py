"""Whom spans are told to: nobody, or the collector that the settings name."""

from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from fieldpost.clock import Clock
from fieldpost.errors import ConfigError
from fieldpost.ports.tracing import Tracer
from fieldpost.settings import Settings
from fieldpost.tracing import Untraced


async def choose_tracer(settings: Settings, clock: Clock, stack: AsyncExitStack, *, instance: str) -> Tracer:
    """The tracer, open as long as the stack.

    Raises:
        ConfigError: an endpoint that is no URL, or one without what it takes to speak to it.
    """
    endpoint = settings.tracing.endpoint
    if not endpoint:
        return Untraced()
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"tracing.endpoint: {endpoint!r} is no http or https URL of a collector")
    try:
        from fieldpost.backends.otel import open_tracer
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigError(
            "tracing.endpoint is set, but OpenTelemetry is not installed; install it with: pip install 'fieldpost[otel]'"
        ) from error
    return await stack.enter_async_context(open_tracer(endpoint, clock, instance=instance))
