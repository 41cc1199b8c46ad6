"""The one place where settings become backends: a URL's scheme decides, and vendors are imported only when chosen."""

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from fieldpost.clock import Clock
from fieldpost.errors import ConfigError
from fieldpost.policy.partition import ShardMap, ShardRange
from fieldpost.ports.backends import Backends
from fieldpost.ports.models import Library, Model
from fieldpost.services.credentials import hash_secret
from fieldpost.services.queues import declare_queues, requests_queue
from fieldpost.services.registration import new_secret
from fieldpost.services.remembering import remember_queued
from fieldpost.settings import Settings

#: The shard that owns every device until there are more.
_ONLY_SHARD = "shard1"
_OPERATOR = "operator"
#: The model that is always there.
_LIBRARY = "library"


@asynccontextmanager
async def open_backends(settings: Settings, clock: Clock) -> AsyncIterator[Backends]:
    """Everything a process reaches outside itself, open while the context lasts.

    Raises:
        ConfigError: a setting that names nothing there is.
        DataDirectoryInUseError: another process holds the data directory.
    """
    from fieldpost.backends.local_folder import LocalFolders
    from fieldpost.backends.memory import memory_shared
    from fieldpost.backends.models.library.library import DocumentLibrary
    from fieldpost.backends.sqlite.opening import lock_directory, open_database

    directory = Path(settings.data.directory)
    async with AsyncExitStack() as stack:
        stack.enter_context(lock_directory(directory))
        operator_key = _secret_file(directory / "operator.key", lambda: f"fpa_{_OPERATOR}_{new_secret()}")
        knowledge = _knowledge(directory / "knowledge")
        embedded = await stack.enter_async_context(open_database(directory / "fieldpost.db"))
        has_devices = bool(await embedded.devices.list(after=0, limit=1))
        pepper = _pepper(directory / "pepper.key", has_devices=has_devices)
        library = await stack.enter_async_context(DocumentLibrary(knowledge, directory / "library.db"))
        models = await _models(settings, library, stack)
        shards = ShardMap([ShardRange(shard=_ONLY_SHARD, first=1)])
        await declare_queues(embedded.broker, shards=shards.shards, models=models, settings=settings.queues)
        shared = memory_shared(clock)
        for shard in shards.shards:
            # The process that accepted them remembered them; this one is asked about them too.
            await remember_queued(embedded.broker.browse(requests_queue(shard)), shared.values)
        yield Backends(
            broker=embedded.broker,
            ledgers={_ONLY_SHARD: embedded.ledger},
            shards=shards,
            devices=embedded.devices,
            shared=shared,
            folders=LocalFolders(directory / "Cloud"),
            models=models,
            library=library,
            pepper=pepper,
            operators=_operators(operator_key, pepper),
        )


async def _models(settings: Settings, library: Library, stack: AsyncExitStack) -> Mapping[str, Model]:
    from fieldpost.backends.models.library.model import LibraryModel

    models: dict[str, Model] = {_LIBRARY: LibraryModel(library, passages=settings.library.passages)}
    if settings.model.url:
        name = settings.model.name or "model"
        if name == _LIBRARY:
            raise ConfigError(f"model.name: {_LIBRARY!r} is the library's; choose another name for the model")
        models[name] = await _model(name, settings, library, stack)
    elif settings.model.name not in ("", _LIBRARY):
        raise ConfigError(f"model.name is {settings.model.name!r}, but model.url does not say where that model is")
    return models


async def _model(name: str, settings: Settings, library: Library, stack: AsyncExitStack) -> Model:
    match urlsplit(settings.model.url).scheme:
        case "echo":
            from fieldpost.backends.models.echo import EchoModel

            return EchoModel()
        case "http" | "https":
            from fieldpost.backends.models.openai.model import OpenAIModel

            model = OpenAIModel(
                settings.model.url,
                name,
                settings.model.key,
                library=library if settings.library.context else None,
                passages=settings.library.passages,
            )
            return await stack.enter_async_context(model)
        case scheme:
            raise ConfigError(f"model.url: unknown scheme {scheme!r}; known are http, https, echo")


def _operators(key: str, pepper: bytes) -> Mapping[str, bytes]:
    prefix, _, rest = key.partition("_")
    name, _, secret = rest.partition("_")
    if prefix != "fpa" or not secret:
        raise ConfigError("operator.key does not hold a key of the form fpa_<name>_<secret>")
    return {name: hash_secret(secret, pepper)}


def _pepper(path: Path, *, has_devices: bool) -> bytes:
    """The key of all hashes; not made once there are devices, whose keys are nothing without the one there was."""
    if has_devices and not path.exists():
        raise ConfigError(
            f"{path} is missing, and no device's key can be checked without it; put it back from a backup "
            f"(without one: openssl rand -hex 32 > {path}, then rotate every device's key)"
        )
    text = _secret_file(path, lambda: secrets.token_hex(32))
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"{path} does not hold what Fieldpost wrote there; put it back from a backup") from None


def _secret_file(path: Path, make: Callable[[], str]) -> str:
    """The secret in a file that only its owner can read; made on the first start, whole or not at all."""
    if not path.exists():
        aside = path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(descriptor)
        aside.rename(path)
    secret = path.read_text(encoding="ascii").strip()
    if not secret:
        raise ConfigError(
            f"{path} is empty; put it back from a backup (a new pepper.key makes every device's key invalid)"
        )
    return secret


def _knowledge(folder: Path) -> Path:
    """The library's folder; made with the sample handbook on the first start, whole or not at all."""
    if not folder.exists():
        aside = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(aside, ignore_errors=True)
        sample = resources.files("fieldpost.templates") / "knowledge"
        with resources.as_file(sample) as source:
            shutil.copytree(source, aside)
        aside.rename(folder)
    return folder
