"""The one place where settings become backends: a URL's scheme decides, and vendors are imported only when chosen."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fieldpost.clock import Clock
from fieldpost.errors import ConfigError
from fieldpost.ports.backends import Backends
from fieldpost.settings import Settings
from fieldpost.wiring import keys, models
from fieldpost.wiring.engines import are_shareable, open_engines
from fieldpost.wiring.tracing import choose_tracer


@asynccontextmanager
async def open_backends(
    settings: Settings, clock: Clock, *, instance: str = "fieldpost", runs_models: bool = True
) -> AsyncIterator[Backends]:
    """Everything a process reaches outside itself, open while the context lasts.

    Args:
        instance: this process's name among others.
        runs_models: False for processes that only need to know which models there are.

    Raises:
        ConfigError: a setting that names nothing there is.
        DataDirectoryInUseError: another process holds the data directory.
        UnavailableError: an engine is away.
    """
    from fieldpost.backends.local_folder import LocalFolders

    directory = Path(settings.data.directory)
    names = models.model_names(settings)
    async with AsyncExitStack() as stack:
        tracer = await choose_tracer(settings, clock, stack, instance=instance)
        _make(directory)
        engines = await open_engines(settings, clock, models=names, instance=instance, stack=stack)
        pepper = await keys.pepper(directory, engines.devices)
        library = (
            await models.open_library(directory, stack, is_shared=are_shareable(settings)) if runs_models else None
        )
        yield Backends(
            broker=engines.broker,
            ledgers=engines.ledgers,
            shards=engines.shards,
            reads=engines.reads,
            devices=engines.devices,
            shared=engines.shared,
            folders=LocalFolders(directory / "Cloud"),
            model_names=names,
            plain_models=_plain(names, settings.model.url),
            models={} if library is None else await models.open_models(settings, library, stack),
            library=library,
            pepper=pepper,
            operators=keys.operators(keys.operator_key(directory), pepper),
            tracer=tracer,
        )


def _plain(names: Sequence[str], url: str) -> frozenset[str]:
    """All but the model behind a server: the library quotes, and an echo echoes."""
    is_server = urlsplit(url).scheme in ("http", "https")
    return frozenset(names[:-1] if is_server else names)


def _make(directory: Path) -> None:
    try:
        # What devices ask and are answered is nobody else's business on this machine.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the data directory {directory} cannot be used: {error.strerror}") from error
