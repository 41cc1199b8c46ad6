"""`fieldpost devices …`."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from fieldpost.cli.next_command import pasted
from fieldpost.cli.server import DEFAULT_URL, AsJson, Data, Operator, Url
from fieldpost.errors import OutputError

app = typer.Typer(help="Adds, shows and changes devices.", no_args_is_help=True, rich_markup_mode=None)

Id = Annotated[int, typer.Argument(min=1, help="The device's id.")]


class Kind(StrEnum):
    """What a device is."""

    TRUCK = "truck"
    WAREHOUSE = "warehouse"
    OFFICE = "office"


@app.command()
def add(
    kind: Annotated[Kind, typer.Option(help="What it is.")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    id: Annotated[int | None, typer.Option(min=1, help="An id of your choice.")] = None,
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Adds a device; prints its id and its key, which is shown this once."""
    body = {"kind": kind.value, "name": name} | ({} if id is None else {"id": id})
    operator = Operator(url, data)
    _print_with_key(operator.call("POST", "/admin/devices", body), operator.url, as_json)


@app.command("list")
def list_devices(url: Url = None, data: Data = None, as_json: AsJson = False) -> None:
    """Lists all devices."""
    operator = Operator(url, data)
    devices: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = operator.call("GET", f"/admin/devices?limit=500&after={after}")
        devices += page["devices"]
        after = page["next"]
    if as_json:
        typer.echo(json.dumps(devices))
        return
    for device in devices:
        _print_line(device)
    if not devices:
        where = [*_option("--url", url), *_option("--data", data)]
        command = pasted("devices", "add", "--kind", "truck", "--name", "Truck 17", *where)
        typer.echo(f"No devices yet. Add one: {command}")


@app.command()
def show(id: Id, url: Url = None, data: Data = None, as_json: AsJson = False) -> None:
    """Shows a device."""
    _print(Operator(url, data).call("GET", f"/admin/devices/{id}"), as_json)


@app.command()
def rotate(id: Id, url: Url = None, data: Data = None, as_json: AsJson = False) -> None:
    """Gives out a new key; the old one stops working."""
    operator = Operator(url, data)
    _print_with_key(operator.call("POST", f"/admin/devices/{id}/rotate"), operator.url, as_json)


@app.command()
def disable(id: Id, url: Url = None, data: Data = None, as_json: AsJson = False) -> None:
    """Refuses a device until it is enabled again."""
    _print(Operator(url, data).call("PATCH", f"/admin/devices/{id}", {"disabled": True}), as_json)


@app.command()
def enable(id: Id, url: Url = None, data: Data = None, as_json: AsJson = False) -> None:
    """Lets a disabled device in again."""
    _print(Operator(url, data).call("PATCH", f"/admin/devices/{id}", {"disabled": False}), as_json)


@app.command()
def remove(id: Id, url: Url = None, data: Data = None, as_json: AsJson = False) -> None:
    """Removes a device; its id is never used again."""
    Operator(url, data).call("DELETE", f"/admin/devices/{id}")
    typer.echo(json.dumps({"removed": id}) if as_json else f"device {id} removed")


def _print_with_key(made: dict[str, Any], url: str, as_json: bool) -> None:
    try:
        _print_all(made, url, as_json)
    except OSError as error:
        again = pasted("devices", "rotate", str(made["device"]["id"]))
        raise OutputError(
            f"{error.strerror}; the device is there, its key is lost: make a new one with {again}"
        ) from error


def _print_all(made: dict[str, Any], url: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(made))
        return
    _print_line(made["device"])
    typer.echo(f"key     {made['key']}")
    typer.echo("The key is shown this once. Ask something with it:")
    where = _option("--url", None if url == DEFAULT_URL else url)
    question = "How long may I drive without a break?"
    typer.echo(f"  {pasted('send', question, '--wait', '--key', made['key'], *where)}")


def _option(name: str, value: str | None) -> Sequence[str]:
    return () if value is None else (name, value)


def _print(device: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(device))
    else:
        _print_line(device)


def _print_line(device: dict[str, Any]) -> None:
    state = "disabled" if device["disabled"] else "enabled"
    typer.echo(f"device  {device['id']:<6} {device['kind']:<10} {state:<9} {device['name']}")
