"""Configuration files: readable templates in the package, filled in with `string.Template`."""

import os
from importlib import resources
from pathlib import Path
from string import Template

from fieldpost.cluster.users import User


class _AtTemplate(Template):
    """For files in whose own language `$` stands before every variable."""

    delimiter = "@"


def fill(template: str, /, **values: object) -> str:
    """The template's text with its `$names` (NGINX's: `@names`) filled in; one that is missing is an error."""
    text = (resources.files("fieldpost.templates") / "cluster" / template).read_text(encoding="utf-8")
    kind = _AtTemplate if template.startswith("nginx") else Template
    return kind(text).substitute({key: str(value) for key, value in values.items()})


def write(path: Path, text: str, user: User | None = None) -> Path:
    """Writes a file whole or not at all, readable by its owner alone."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    aside.chmod(0o600)
    if user is not None:
        os.chown(aside, user.uid, user.gid)
    aside.rename(path)
    return path
