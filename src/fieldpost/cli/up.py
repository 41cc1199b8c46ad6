"""`fieldpost up`: everything in one process."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldpost.cli.next_command import next_command, reached_at

if TYPE_CHECKING:
    from fieldpost.settings import Settings


def up(
    data: Annotated[str | None, typer.Option(help="Where everything is kept (default ./fieldpost-data).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port (default 5000; 0 takes a free one).")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on (default 127.0.0.1).")] = None,
) -> None:
    """Starts Fieldpost: gateway, hub, watcher, processor and worker in one process."""
    from fieldpost import settings
    from fieldpost.observability import configure_logs

    overrides: dict[str, dict[str, object]] = {"server": {}, "data": {}}
    if port is not None:
        overrides["server"]["port"] = port
    if host is not None:
        overrides["server"]["host"] = host
    if data is not None:
        overrides["data"]["directory"] = data
    loaded = settings.load(overrides=overrides)
    configure_logs(style=loaded.log.format, level=loaded.log.level)

    import uvloop

    from fieldpost.supervisor.running import run

    uvloop.run(run(loaded, on_listening=lambda bound: _greet(loaded, bound)))


def _greet(loaded: "Settings", port: int) -> None:
    # Where nobody can read it, serving is what counts.
    with contextlib.suppress(OSError):
        typer.echo(_greeting(loaded, port, is_for_a_person=sys.stdout.isatty()))


def _greeting(loaded: "Settings", port: int, *, is_for_a_person: bool) -> str:
    directory = Path(loaded.data.directory)
    url = f"http://{reached_at(loaded.server.host)}:{port}"
    key = directory / "operator.key"
    # A service's output goes to logs, which more people read than may hold the key.
    page = f"{url}/#key={key.read_text(encoding='ascii').strip()}" if is_for_a_person else f"{url}/    (key: {key})"
    model = loaded.model.name or ("model" if loaded.model.url else "library")
    return (
        f"Fieldpost is up.\n"
        f"  page        {page}\n"
        f"  HTTP        {url}/v1/requests    OpenAI-compatible  {url}/v1\n"
        f"  WebSocket   {url.replace('http', 'ws', 1)}/v1/stream\n"
        f"  folder      {directory / 'Cloud' / 'Requests'}/<device id>/\n"
        f"  documents   {directory / 'knowledge'}/    answered by: {model}\n"
        f"Try next, in another terminal:\n"
        f"  {next_command(url, loaded.data.directory)}\n"
        f"Ctrl-C stops."
    )
