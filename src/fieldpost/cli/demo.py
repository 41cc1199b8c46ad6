"""`fieldpost demo`: a simulated fleet against a running server."""

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fieldpost.cli.server import AsJson, Data, Operator, Url
from fieldpost.errors import FieldpostError

if TYPE_CHECKING:
    from rich.console import Console

    from fieldpost.fleet.assembly import Plan
    from fieldpost.fleet.roster import Member, Place
    from fieldpost.fleet.summary import Summary

_MAX_SECONDS = 86_400


def demo(
    seconds: Annotated[float, typer.Option(min=1, max=_MAX_SECONDS, help="How long the devices ask.")] = 30.0,
    devices: Annotated[int, typer.Option(min=1, max=1000, help="How many there are.")] = 30,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Questions a second, all devices together.")] = 10.0,
    settle: Annotated[float, typer.Option(min=1, max=3600, help="Seconds that open answers have after that.")] = 60.0,
    gone: Annotated[float, typer.Option(min=1, max=3600, help="Seconds that the server may be away.")] = 30.0,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same questions.", show_default=False)] = None,
    url: Url = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Lets a fleet of devices ask through all three doors, drop off and come back; 1 if an answer is lost or doubled."""
    from rich.console import Console

    from fieldpost.fleet.assembly import Plan
    from fieldpost.fleet.roster import roster

    # A stop takes the devices away too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    operator = Operator(url, data)
    cloud = operator.directory / "Cloud"
    why_not = _no_folder(operator, cloud)
    if why_not and not as_json:
        console.print(f"{why_not} The devices that would use the folder use HTTP.", markup=False, soft_wrap=True)
    plan = Plan(
        url=operator.url,
        seconds=seconds,
        requests_per_second=rate,
        settle_seconds=settle,
        gone_seconds=gone,
        seed=secrets.randbits(32) if seed is None else seed,
        cloud=cloud,
    )
    with _enrolled(operator, roster(devices, has_folder=not why_not)) as members:
        summary = _run(members, plan, None if as_json else console)
    _print(summary, None if as_json else console)
    if not summary.is_kept:
        raise typer.Exit(1)


def _no_folder(operator: Operator, cloud: Path) -> str:
    """Why the folder door cannot be used from here; empty when it can."""
    if not operator.owns_directory:
        return f"{operator.directory} is not the data directory of {operator.url}; name it with --data."
    if not os.access(cloud / "Requests", os.W_OK | os.X_OK):
        return f"{cloud / 'Requests'} cannot be written to."
    return ""


@contextlib.contextmanager
def _enrolled(operator: Operator, places: "Sequence[Place]") -> "Iterator[list[Member]]":
    """Devices that exist as long as the context lasts."""
    from fieldpost.fleet.roster import Member

    members: list[Member] = []
    try:
        for place in places:
            made = operator.call("POST", "/admin/devices", {"kind": place.kind.value, "name": place.name})
            members.append(Member(place=place, device_id=made["device"]["id"], key=made["key"]))
        yield members
    finally:
        _remove(operator, members)


def _remove(operator: Operator, members: "Sequence[Member]") -> None:
    for number, member in enumerate(members):
        try:
            operator.call("DELETE", f"/admin/devices/{member.device_id}")
        except FieldpostError as error:
            left = ", ".join(str(each.device_id) for each in members[number:])
            typer.echo(f"fieldpost: these devices of the demo are still there: {left} ({error})", err=True)
            return


def _run(members: "Sequence[Member]", plan: "Plan", console: "Console | None") -> "Summary":
    import asyncio

    from fieldpost.clock import SystemClock
    from fieldpost.fleet.assembly import assemble
    from fieldpost.fleet.showing import show

    clock = SystemClock()
    fleet = assemble(members, plan, clock=clock)
    try:
        asyncio.run(fleet.run(watch=None if console is None else lambda: show(fleet, console, clock=clock)))
    finally:
        fleet.clear()
    return fleet.summary()


def _print(summary: "Summary", console: "Console | None") -> None:
    import msgspec

    from fieldpost.fleet.table import closing

    if console is None:
        typer.echo(msgspec.json.encode(summary))
    else:
        console.print("", closing(summary), sep="\n")
