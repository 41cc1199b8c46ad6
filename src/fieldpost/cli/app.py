"""The commands, by group; each is a thin file that loads what it needs only when it runs."""

import contextlib
import os
import sys
from typing import NoReturn

import typer

from fieldpost.cli import broadcast, cluster, db, demo, devices, listen, send, show, up
from fieldpost.cli.roles import add_roles
from fieldpost.errors import FieldpostError, OutputError

app = typer.Typer(
    name="fieldpost",
    help="The post office between devices in the field and AI workers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("up")(up.up)
add_roles(app)
app.add_typer(devices.app, name="devices")
app.add_typer(db.app, name="db")
app.command("broadcast")(broadcast.broadcast)
app.command("send")(send.send)
app.command("listen")(listen.listen)
app.add_typer(cluster.app, name="cluster")
app.command("demo")(demo.demo)
app.command("config")(show.config)
app.command("version")(show.version)


def main() -> None:
    """Runs a command; an error of ours, or an output that takes nothing more, is one line and status 1."""
    try:
        app()
    except FieldpostError as error:
        _fail(error)
    except OSError as error:
        if error.filename is not None:
            raise
        # What cannot be reached or read has become an error of ours by now; what is left is what is printed.
        _fail(OutputError(error.strerror or str(error)))
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: FieldpostError) -> NoReturn:
    if isinstance(error, OutputError):
        # What did not get out would be tried again at exit, and fail again, in words of Python's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with contextlib.suppress(OSError):
        print(f"fieldpost: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(1)
