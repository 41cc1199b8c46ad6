"""Serves one operation: authenticates, reads the body within its bound, calls the handler, sends what came of it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec

from fieldpost.errors import FieldpostError, InvalidRequestError, RequestTooLargeError
from fieldpost.messages.devices import Credential
from fieldpost.messages.requests import MAX_BODY_BYTES
from fieldpost.observability import get_logger
from fieldpost.services.credentials import Credentials
from fieldpost.web.operations import Call, Caller, Operation, Reply, header
from fieldpost.web.problems import error_reply, invalid_body, openai_error_reply, unsupported_media_type

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

log = get_logger()


class Endpoint:
    """An ASGI application for one operation."""

    def __init__(self, operation: Operation, credentials: Credentials) -> None:
        self._operation = operation
        self._credentials = credentials
        decoder = None if operation.body is None else msgspec.json.Decoder(operation.body).decode
        self._decode: Callable[[bytes], Any] | None = operation.decode or decoder
        self._to_reply = openai_error_reply if operation.openai_errors else error_reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            call = await self._call(scope, receive)
            if self._operation.waits:
                await self._answer_while_there(call, receive, send)
                return
            reply = await self._operation.handler(call)
        except Exception as error:  # noqa: BLE001 one table turns it into a reply
            reply = self._failed(error, scope)
        await send_reply(send, reply)

    async def _call(self, scope: Scope, receive: Receive) -> Call:
        device: Credential | None = None
        match self._operation.caller:
            case Caller.DEVICE:
                device = self._credentials.authenticate(header(scope, b"authorization"))
            case Caller.OPERATOR:
                self._credentials.authenticate_operator(header(scope, b"authorization"))
            case Caller.ANYONE:
                pass
        body = None
        if self._decode is not None:
            check_content_type(scope)
            raw = await read_body(scope, receive)
            try:
                body = self._decode(raw)
            except msgspec.MsgspecError as error:
                raise invalid_body(error) from error
            except UnicodeDecodeError as error:
                raise InvalidRequestError(f"text that is not UTF-8: {error.reason}") from error
        return Call(scope, device=device, body=body)

    async def _answer_while_there(self, call: Call, receive: Receive, send: Send) -> None:
        """Answers, unless the caller leaves first: then the work for it ends, and nothing counts as delivered."""
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(_until_gone(receive))
            answering = tasks.create_task(self._answer(call, send, gone))
            await asyncio.wait([gone, answering], return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            answering.cancel()

    async def _answer(self, call: Call, send: Send, gone: "asyncio.Task[None]") -> None:
        try:
            reply = await self._operation.handler(call)
        except Exception as error:  # noqa: BLE001 one table turns it into a reply
            reply = self._failed(error, call.scope)
        await send_reply(send, reply)
        if reply.on_sent is not None and not gone.done():
            try:
                await reply.on_sent()
            except FieldpostError as error:
                # The answer stays undelivered and comes again.
                log.warning("acknowledgement_failed", error=repr(error))

    def _failed(self, error: Exception, scope: Mapping[str, Any]) -> Reply:
        if not isinstance(error, FieldpostError):
            log.error("request_failed", path=scope["path"], exc_info=error)
        return self._to_reply(error, instance=scope["path"])


async def send_reply(send: Send, reply: Reply) -> None:
    """Sends a reply whole."""
    headers = [(b"content-type", reply.content_type), *reply.headers]
    if reply.stream is None:
        headers.append((b"content-length", b"%d" % len(reply.body)))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    async with aclosing(reply.stream) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        RequestTooLargeError: more than 1 MiB, whether it was announced or not.
    """
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise RequestTooLargeError(f"{announced} bytes; {MAX_BODY_BYTES} at most")
    message = await receive()
    if not message.get("more_body", False):
        return bytes(message.get("body", b""))
    pieces = [message.get("body", b"")]
    size_bytes = len(pieces[0])
    while message.get("more_body", False):
        message = await receive()
        piece = message.get("body", b"")
        size_bytes += len(piece)
        if size_bytes > MAX_BODY_BYTES:
            raise RequestTooLargeError(f"more than {MAX_BODY_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def check_content_type(scope: Scope) -> None:
    """JSON by any of its names, or nothing said.

    Raises:
        UnsupportedMediaTypeError: something else.
    """
    said = header(scope, b"content-type")
    if said is None or said == "application/json":
        return
    media_type = said.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise unsupported_media_type(media_type)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
