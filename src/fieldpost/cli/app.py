"""The commands, by group; each is a thin file that loads what it needs only when it runs."""

import sys

import typer

from fieldpost.cli import demo, devices, listen, send, show, up
from fieldpost.errors import FieldpostError

app = typer.Typer(
    name="fieldpost",
    help="The post office between devices in the field and AI workers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("up")(up.up)
app.add_typer(devices.app, name="devices")
app.command("send")(send.send)
app.command("listen")(listen.listen)
app.command("demo")(demo.demo)
app.command("config")(show.config)
app.command("version")(show.version)


def main() -> None:
    """Runs a command; an error of ours is one line and status 1."""
    try:
        app()
    except FieldpostError as error:
        text = f"{error.title} {error.detail}".strip()
        print(f"fieldpost: {text}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
