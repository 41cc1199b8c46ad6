"""`fieldpost send`: asks as a device."""

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from fieldpost.cli.server import AsJson, Key, Url
from fieldpost.errors import (
    FieldpostError,
    InvalidRequestError,
    OutputError,
    RequestTooLargeError,
    UnreachableError,
    in_full,
)

if TYPE_CHECKING:
    from fieldpost.messages.responses import Response


def send(
    prompt: Annotated[str | None, typer.Argument(help="What to ask.", show_default=False)] = None,
    file: Annotated[str | None, typer.Option(help="Ask what stands in this file; - is standard input.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the answer and print it.")] = False,
    model: Annotated[str | None, typer.Option(help="Which model is to answer.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds after which the answer is of no use.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key is the same request.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 60.0,
    retry: Annotated[float, typer.Option(min=0, help="Seconds to keep trying while the server is away or busy.")] = 5.0,
    key: Key = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Posts a request as a device; prints its id, or with --wait the answer."""
    import asyncio

    question = _question(prompt, file)

    async def ask() -> "UUID | Response":
        from fieldpost.client import AsyncClient

        async with AsyncClient(url, key, give_up_seconds=retry) as client:
            request_id = await client.post(
                question, model=model, deadline_seconds=deadline, idempotency_key=idempotency_key
            )
            if not wait:
                _print(request_id, request_id, as_json)
                return request_id
            response = await client.wait(request_id, timeout_seconds=timeout, acknowledge=False)
            _print(response, request_id, as_json)
            # Only now: an answer that could not be printed comes again.
            with contextlib.suppress(FieldpostError):
                await client.acknowledge([request_id])
            return response

    try:
        outcome = asyncio.run(ask())
    except UnreachableError as error:
        error.detail = f"{error.detail}. Is it running? Start one with: fieldpost up"
        raise
    if not isinstance(outcome, UUID) and outcome.output is None:
        raise FieldpostError(f"Request {outcome.request_id} {outcome.status.value}: {reason(outcome)}")


def _question(prompt: str | None, file: str | None) -> str:
    if (prompt is None) == (file is None):
        raise typer.BadParameter("say what to ask: either a text, or --file")
    return prompt if prompt is not None else _read(str(file))


def _read(file: str) -> str:
    from fieldpost.messages.requests import MAX_BODY_BYTES

    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as opened:
            content = opened.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        raise InvalidRequestError(f"{file}: {error.strerror}") from error
    if len(content) > MAX_BODY_BYTES:
        raise RequestTooLargeError(f"{file} has more than {MAX_BODY_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{file} is not text in UTF-8") from None


def _print(outcome: "UUID | Response", request_id: UUID, as_json: bool) -> None:
    """Returns when it was written; what went wrong with the request itself is not said here."""
    try:
        if isinstance(outcome, UUID):
            typer.echo(json.dumps({"id": str(outcome)}) if as_json else str(outcome))
        elif as_json:
            print_json(outcome)
        elif outcome.output is not None:
            print_text(outcome)
    except OSError as error:
        raise OutputError(f"{error.strerror}; the request was accepted, its id is {request_id}") from error


def print_json(response: "Response") -> None:
    """The response as it came, on one line."""
    import msgspec

    typer.echo(msgspec.json.encode(response))


def print_text(response: "Response") -> None:
    """The answer's text, then what it rests on."""
    assert response.output is not None
    typer.echo(response.output.text)
    if response.output.sources:
        typer.echo("\nSources:")
    for source in response.output.sources:
        typer.echo(f"  {source.file}" + (f", {source.heading}" if source.heading else ""))


def reason(response: "Response") -> str:
    """Why there is no answer."""
    if response.error is None:
        return response.status.value
    return in_full(response.error.title, response.error.detail)
