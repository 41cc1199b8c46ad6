"""`fieldpost broadcast`: an operator tells connected devices something."""

import json
from typing import Annotated

import typer

from fieldpost.cli.devices import Kind
from fieldpost.cli.server import AsJson, Data, Operator, Url


def broadcast(
    text: Annotated[str, typer.Argument(help="What to tell.")],
    kind: Annotated[Kind | None, typer.Option(help="Only devices of this kind.", show_default=False)] = None,
    device: Annotated[
        list[int] | None, typer.Option(min=1, help="Only this device; may be given again.", show_default=False)
    ] = None,
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Tells the devices that are connected now something, at most once; prints its id."""
    body = {"text": text, "kind": kind and kind.value, "devices": device}
    sent = Operator(url, data).call("POST", "/admin/broadcasts", body)
    typer.echo(json.dumps(sent) if as_json else sent["id"])
