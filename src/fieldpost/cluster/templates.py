"""Configuration files: readable templates in the package, filled in with `string.Template`."""

import os
from importlib import resources
from pathlib import Path
from string import Template

from fieldpost.cluster.users import User


def fill(name: str, **values: object) -> str:
    """The template's text with its `$names` filled in; one that is missing is an error."""
    text = (resources.files("fieldpost.templates") / "cluster" / name).read_text(encoding="utf-8")
    return Template(text).substitute({key: str(value) for key, value in values.items()})


def write(path: Path, text: str, user: User | None = None) -> Path:
    """Writes a file whole or not at all, readable by its owner alone."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    aside.chmod(0o600)
    if user is not None:
        os.chown(aside, user.uid, user.gid)
    aside.rename(path)
    return path
