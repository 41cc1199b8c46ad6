"""`fieldpost gateway|hub|processor|worker|watcher`: one role in a process of its own."""

from collections.abc import Callable
from typing import Annotated

import typer

#: What each is for, as `--help` says it.
_ROLES = {
    "gateway": "Starts a gateway: the HTTP door.",
    "hub": "Starts a hub: the WebSocket door.",
    "processor": "Starts a processor: records, dispatches and delivers.",
    "worker": "Starts an AI worker.",
    "watcher": "Starts a watcher: the folder door.",
}


def add_roles(app: typer.Typer) -> None:
    """Adds a command for each role."""
    for role, summary in _ROLES.items():
        app.command(role, help=f"{summary} Any number of them can run over the same engines, which the settings name.")(
            _command(role)
        )


def _command(role: str) -> Callable[..., None]:
    def command(
        port: Annotated[
            int,
            typer.Option(min=0, max=65535, help="Where it tells /health, /ready and /metrics (0 takes a free one)."),
        ] = 0,
        host: Annotated[str | None, typer.Option(help="The address to listen on (default 127.0.0.1).")] = None,
        data: Annotated[str | None, typer.Option(help="The directory of keys, folders and documents.")] = None,
    ) -> None:
        _run(role, port=port, host=host, data=data)

    return command


def _run(role: str, *, port: int, host: str | None, data: str | None) -> None:
    from fieldpost import settings
    from fieldpost.house import instance_name
    from fieldpost.observability import configure_logs

    overrides: dict[str, dict[str, object]] = {"server": {"port": port}, "data": {}}
    if host is not None:
        overrides["server"]["host"] = host
    if data is not None:
        overrides["data"]["directory"] = data
    loaded = settings.load(overrides=overrides)
    configure_logs(style=loaded.log.format, level=loaded.log.level, instance=instance_name([role]))

    import uvloop

    from fieldpost.supervisor.running import run

    def greet(bound: int) -> None:
        typer.echo(f"ready: http://{loaded.server.host}:{bound}")

    uvloop.run(run(loaded, roles=[role], on_listening=greet))
