"""`fieldpost config` and `fieldpost version`."""

import re
from typing import Any
from urllib.parse import unquote

import typer

_SECRET = frozenset({"key", "operator_key"})
_MASK = "********"
#: In URLs of engines; a password may hold an `@` itself, so it ends at the last one.
_PASSWORD = re.compile(r"://([^:/@]*):[^@]*@(?:[^/,]*@)?")
#: Whether this `@` ends a password or stands in a query nobody can tell; what follows may be the rest of a secret.
_UNCLEAR = re.compile(r"://([^:/@]*):[^@]*\?.*@.*", re.DOTALL)
_IN_QUERY = re.compile(r"([?&])([^=&?]*)=[^&]*")
_SECRET_NAME = re.compile("pass|pwd|secret|token|key|auth|sig|cred", re.IGNORECASE)


def config() -> None:
    """Shows the settings in force: defaults, fieldpost.toml, environment. Secrets are masked."""
    import json

    import msgspec

    from fieldpost import settings

    sections = msgspec.to_builtins(settings.load())
    for section, values in sections.items():
        typer.echo(f"[{section}]")
        for name, value in values.items():
            shown = _MASK if name in _SECRET and value else _masked(value)
            typer.echo(f"{name} = {json.dumps(shown)}")
        typer.echo("")


def _masked(value: Any) -> Any:
    """With no secret in any of its URLs."""
    match value:
        case str():
            known = _PASSWORD.sub(rf"://\1:{_MASK}@", _UNCLEAR.sub(rf"://\1:{_MASK}", value))
            return _IN_QUERY.sub(_without_secret, known)
        case list() | tuple():
            return [_masked(item) for item in value]
        case dict():
            return {key: _masked(item) for key, item in value.items()}
    return value


def _without_secret(found: re.Match[str]) -> str:
    separator, name = found.groups()
    return f"{separator}{name}={_MASK}" if _SECRET_NAME.search(unquote(name)) else found.group()


def version() -> None:
    """Shows the version."""
    from importlib import metadata

    typer.echo(metadata.version("fieldpost"))
