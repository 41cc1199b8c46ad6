"""The models and their library: what there is, and what a process runs of it."""

import contextlib
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib import resources
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import urlsplit

from fieldpost.errors import ConfigError
from fieldpost.ports.models import Library, Model
from fieldpost.settings import Settings

#: The model that is always there.
_LIBRARY = "library"


def model_names(settings: Settings) -> tuple[str, ...]:
    """Every model that may be asked.

    Raises:
        ConfigError: a name that cannot be had.
    """
    if settings.model.url:
        name = settings.model.name or "model"
        if name == _LIBRARY:
            raise ConfigError(f"model.name: {_LIBRARY!r} is the library's; choose another name for the model")
        return (_LIBRARY, name)
    if settings.model.name not in ("", _LIBRARY):
        raise ConfigError(f"model.name is {settings.model.name!r}, but model.url does not say where that model is")
    return (_LIBRARY,)


async def open_models(settings: Settings, library: Library, stack: AsyncExitStack) -> Mapping[str, Model]:
    """The models themselves, by name.

    Raises:
        ConfigError: as `model_names`, and a URL of an unknown scheme.
    """
    from fieldpost.backends.models.library.model import LibraryModel

    models: dict[str, Model] = {_LIBRARY: LibraryModel(library, passages=settings.library.passages)}
    for name in model_names(settings):
        if name != _LIBRARY:
            models[name] = await _model(name, settings, library, stack)
    return models


async def open_library(directory: Path, stack: AsyncExitStack, *, is_shared: bool) -> Library:
    """The library over the directory's documents.

    Args:
        is_shared: whether other processes read the same documents; each has an index of its own then.
    """
    from fieldpost.backends.models.library.library import DocumentLibrary
    from fieldpost.backends.models.library.own_index import own_index

    index = directory / "library.db"
    if is_shared:
        index = stack.enter_context(own_index(directory / "indexes"))
    return await stack.enter_async_context(DocumentLibrary(knowledge_folder(directory), index))


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


def knowledge_folder(directory: Path) -> Path:
    """The library's folder; made with the sample handbook on the first start, whole or not at all."""
    folder = directory / "knowledge"
    if not folder.exists():
        aside = Path(mkdtemp(prefix=".knowledge.", dir=directory))
        shutil.rmtree(aside, ignore_errors=True)
        sample = resources.files("fieldpost.templates") / "knowledge"
        with resources.as_file(sample) as source:
            shutil.copytree(source, aside, dirs_exist_ok=True)
        aside.chmod(0o755)
        # Another process may have been faster: a folder with something in it is not replaced.
        with contextlib.suppress(OSError):
            aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    return folder
