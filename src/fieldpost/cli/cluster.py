"""`fieldpost cluster`: the real engines and all roles on one machine, and what is done to them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldpost.cli.next_command import next_command, reached_at
from fieldpost.errors import ConfigError

if TYPE_CHECKING:
    from fieldpost.cluster.control import Command, Reply

#: A role may take this long to hand back what it has in hand.
_CHANGE_SECONDS = 120.0
_ASK_SECONDS = 15.0

Data = Annotated[Path, typer.Option("--data", help="The cluster's directory.")]
_DATA = Path("fieldpost-cluster")
Part = Annotated[str, typer.Argument(metavar="PART", help="As `fieldpost cluster status` names it.")]

app = typer.Typer(help="A cluster on one machine: real engines, separate roles.", no_args_is_help=True)


@app.command()
def up(
    data: Data = _DATA,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where clients connect, NGINX's.")] = 5000,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    small: Annotated[bool, typer.Option("--small", help="Without replicas, one process of each role.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Three nodes of every engine: any one may die.")] = False,
    shards: Annotated[int | None, typer.Option(help="PostgreSQL clusters (1 unless the directory has more).")] = None,
    without_roles: Annotated[bool, typer.Option("--without-roles", hidden=True)] = False,
) -> None:
    """Starts everything and stays until Ctrl-C; says `ready: URL` when all is up, and what to try next."""
    import asyncio
    import random

    from fieldpost import settings
    from fieldpost.clock import SystemClock
    from fieldpost.cluster import configuration
    from fieldpost.cluster.topology import Size
    from fieldpost.cluster.up import Options, run
    from fieldpost.observability import configure_logs

    if small and full:
        raise ConfigError("a cluster is --small or --full, not both")
    loaded = settings.load()
    configure_logs(style=loaded.log.format, level=loaded.log.level)
    options = Options(
        directory=data,
        host=host,
        port=port,
        size=Size.SMALL if small else Size.FULL if full else None,
        shards=shards,
        with_roles=not without_roles,
        patroni_directory=loaded.cluster.patroni,
    )
    own = configuration.without_defaults(loaded)
    # Without roles nobody answers it.
    hint = "" if without_roles else _hint(data, host, port)
    source = random.Random()  # noqa: S311 ports
    asyncio.run(run(options, own=own, clock=SystemClock(), source=source, say=typer.echo, hint=hint))


@app.command()
def status(data: Data = _DATA) -> None:
    """Shows every part: role, process, port, memory, health, lag."""
    from rich.console import Console

    from fieldpost.cluster.control import Command
    from fieldpost.cluster.showing import table

    reply = _ask(data, Command(verb="status"), _ASK_SECONDS)
    # Piped, it is as wide as it needs to be.
    console = Console() if Console().is_terminal else Console(width=160)
    console.print(table(reply.parts))
    typer.echo(f"ready: {reply.url}" if reply.is_ready else "coming up")


@app.command()
def logs(
    part: Part,
    data: Data = _DATA,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last ones.")] = 50,
) -> None:
    """Shows the end of a part's log, also of a cluster that does not run."""
    import asyncio
    import sys

    from fieldpost.clock import SystemClock
    from fieldpost.cluster import tail

    path = tail.find(data.resolve(), part)
    for piece in tail.last(path, lines):
        sys.stdout.write(piece)
    sys.stdout.flush()
    if follow:
        asyncio.run(tail.follow(path, sys.stdout, clock=SystemClock()))


@app.command()
def kill(
    part: Part,
    data: Data = _DATA,
    signal: Annotated[str, typer.Option("--signal", help="By name or number.")] = "KILL",
    down: Annotated[float, typer.Option("--down", min=0, help="Seconds until it is started again.")] = 0.0,
) -> None:
    """Sends a part a signal; one that ends of it is started again."""
    from fieldpost.cluster import processes
    from fieldpost.cluster.control import Command

    number = processes.signal_number(signal)
    if number is None:
        raise ConfigError(f"there is no signal {signal}")
    _do(data, Command(verb="kill", part=part, signal=number, down_seconds=down))


@app.command()
def pause(part: Part, data: Data = _DATA) -> None:
    """Freezes a part (SIGSTOP)."""
    from fieldpost.cluster.control import Command

    _do(data, Command(verb="pause", part=part))


@app.command()
def resume(part: Part, data: Data = _DATA) -> None:
    """Lets a frozen part go on (SIGCONT)."""
    from fieldpost.cluster.control import Command

    _do(data, Command(verb="resume", part=part))


@app.command()
def restart(part: Part, data: Data = _DATA) -> None:
    """Stops a part in order and starts it again."""
    from fieldpost.cluster.control import Command

    _do(data, Command(verb="restart", part=part))


@app.command()
def scale(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="gateway, hub, processor, worker or watcher.")],
    count: Annotated[int, typer.Argument(metavar="N", min=0)],
    data: Data = _DATA,
) -> None:
    """Gives a role so many processes; those that are too many drain first."""
    from fieldpost.cluster.control import Command

    _do(data, Command(verb="scale", role=role, count=count))


@app.command()
def down(data: Data = _DATA) -> None:
    """Stops everything in order and returns when nothing runs; data stays."""
    import asyncio

    from fieldpost.clock import SystemClock
    from fieldpost.cluster.going_down import go_down

    asyncio.run(go_down(data.resolve(), clock=SystemClock()))
    typer.echo("down")


def _hint(data: Path, host: str, port: int) -> str:
    command = next_command(f"http://{reached_at(host)}:{port}", str(data / "roles"))
    return f"Try next, in another terminal:\n  {command}"


def _do(data: Path, command: "Command") -> None:
    typer.echo(_ask(data, command, _CHANGE_SECONDS).message)


def _ask(data: Path, command: "Command", seconds: float) -> "Reply":
    import asyncio

    from fieldpost.cluster.control import ask

    return asyncio.run(ask(data.resolve(), command, seconds=seconds))
