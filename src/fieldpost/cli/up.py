"""`fieldpost up`: everything in one process."""

from typing import Annotated

import typer


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

    from fieldpost.supervisor import run

    uvloop.run(run(loaded, on_listening=lambda bound: _greet(loaded, bound)))


def _greet(loaded: object, port: int) -> None:
    from pathlib import Path

    from fieldpost.settings import Settings

    assert isinstance(loaded, Settings)
    directory = Path(loaded.data.directory)
    host = "127.0.0.1" if loaded.server.host in ("0.0.0.0", "::") else loaded.server.host  # noqa: S104 compared
    url = f"http://{host}:{port}"
    key = (directory / "operator.key").read_text(encoding="ascii").strip()
    model = loaded.model.name or ("model" if loaded.model.url else "library")
    where = "" if port == 5000 else f" --url {url}"
    rest = "" if loaded.data.directory == "fieldpost-data" else f" --data {loaded.data.directory}"
    typer.echo(
        f"Fieldpost is up.\n"
        f"  page        {url}/#key={key}\n"
        f"  HTTP        {url}/v1/requests    OpenAI-compatible  {url}/v1\n"
        f"  WebSocket   {url.replace('http', 'ws', 1)}/v1/stream\n"
        f"  folder      {directory / 'Cloud' / 'Requests'}/<device id>/\n"
        f"  documents   {directory / 'knowledge'}/    answered by: {model}\n"
        f"Try next, in another terminal:\n"
        f'  fieldpost devices add --kind truck --name "Truck 17"{where}{rest}\n'
        f"Ctrl-C stops."
    )
