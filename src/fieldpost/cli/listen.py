"""`fieldpost listen`: prints a device's answers, and what operators tell it, as they come."""

from typing import TYPE_CHECKING, Annotated

import typer

from fieldpost.cli.send import print_json, print_text, reason
from fieldpost.cli.server import AsJson, Key, Url
from fieldpost.errors import FieldpostError

if TYPE_CHECKING:
    from fieldpost.client import Broadcast
    from fieldpost.messages.responses import Response


def listen(
    count: Annotated[int | None, typer.Option(min=1, help="End after so many answers.", show_default=False)] = None,
    key: Key = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Prints answers as they come, also those missed so far, and acknowledges them; broadcasts too. Ctrl-C ends it."""
    import asyncio
    import contextlib

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_listen(count, key, url, as_json))


async def _listen(count: int | None, key: str | None, url: str | None, as_json: bool) -> None:
    import asyncio

    from fieldpost.client import AsyncClient

    printed = 0
    unprinted: list[OSError] = []
    listening = asyncio.current_task()
    assert listening is not None

    def tell(broadcast: "Broadcast") -> None:
        try:
            _print_broadcast(broadcast, as_json)
        except OSError as error:
            # Raised here it would be the connection's error.
            unprinted.append(error)
            listening.cancel()

    try:
        async with (
            AsyncClient(url, key) as client,
            client.connect(on_trouble=_Complaints().tell, on_broadcast=tell) as stream,
        ):
            while count is None or printed < count:
                response = await stream.receive()
                _print(response, as_json)
                stream.acknowledge(response)
                printed += 1
    except asyncio.CancelledError:
        if unprinted:
            raise unprinted[0] from None
        raise


class _Complaints:
    """Tells on standard error why nothing comes, each reason once in a row."""

    def __init__(self) -> None:
        self._last = ""

    def tell(self, error: FieldpostError) -> None:
        text = str(error).rstrip(".")
        if text != self._last:
            typer.echo(f"fieldpost: {text}. Trying again.", err=True)
        self._last = text


def _print(response: "Response", as_json: bool) -> None:
    if as_json:
        print_json(response)
        return
    typer.echo(f"{response.request_id}  {response.status.value}  {response.completed_at:%Y-%m-%d %H:%M:%S} UTC")
    if response.output is not None:
        print_text(response)
    else:
        typer.echo(reason(response))
    typer.echo("")


def _print_broadcast(broadcast: "Broadcast", as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps({"broadcast_id": str(broadcast.broadcast_id), "text": broadcast.text}))
        return
    typer.echo(f"{broadcast.broadcast_id}  broadcast\n{broadcast.text}\n")
