"""`fieldpost config` and `fieldpost version`."""

import re

import typer

_SECRET = frozenset({"key", "operator_key"})
#: In URLs of engines; a password may hold an `@` itself, so it ends at the last one.
_PASSWORD = re.compile(r"://([^:/@\s\"]*):[^@\s\"]*@(?:[^/,\s\"]*@)?")


def config() -> None:
    """Shows the settings in force: defaults, fieldpost.toml, environment. Secrets are masked."""
    import json

    import msgspec

    from fieldpost import settings

    sections = msgspec.to_builtins(settings.load())
    for section, values in sections.items():
        typer.echo(f"[{section}]")
        for name, value in values.items():
            shown = "********" if name in _SECRET and value else value
            masked = _PASSWORD.sub(r"://\1:********@", json.dumps(shown))
            typer.echo(f"{name} = {masked}")
        typer.echo("")


def version() -> None:
    """Shows the version."""
    from importlib import metadata

    typer.echo(metadata.version("fieldpost"))
