"""Serves one operation: authenticates, reads the body, calls the handler, sends what came of it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from fieldpost.errors import FieldpostError, InvalidRequestError, MalformedRequestError, OverloadedError
from fieldpost.messages.devices import Credential
from fieldpost.observability import get_logger
from fieldpost.services.credentials import Credentials
from fieldpost.web.bodies import Receive, Scope, check_content
from fieldpost.web.decoding import decoder
from fieldpost.web.operations import Call, Caller, Operation, Reply, header
from fieldpost.web.problems import error_reply, invalid_body, openai_error_reply
from fieldpost.web.sending import Send, send_reply

log = get_logger()


class Endpoint:
    """An ASGI application for one operation; `credentials` may be missing where anyone may call."""

    def __init__(self, operation: Operation, credentials: Credentials | None) -> None:
        self._operation = operation
        self._credentials = credentials
        self._decode = operation.decode
        if operation.decode is None and operation.body is not None:
            self._decode = decoder(operation.body)
        self._to_reply = openai_error_reply if operation.openai_errors else error_reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._operation.caller is Caller.ANYONE:
            await self._serve(scope, receive, send, None)
            return
        try:
            device = await self._authenticate(scope)
            scope["app"].calls.enter(device)
        except FieldpostError as error:
            await send_reply(send, self._failed(error, scope))
            return
        try:
            await self._serve(scope, receive, send, device)
        finally:
            scope["app"].calls.leave(device)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, device: Credential | None) -> None:
        try:
            call = await self._call(scope, receive, device)
            if self._waits(call):
                await self._answer_while_there(call, scope, receive, send)
                return
            reply = await self._operation.handler(call)
        except Exception as error:  # noqa: BLE001 one table turns it into a reply
            reply = self._failed(error, scope)
        await self._send(reply, scope, send, device)

    async def _send(self, reply: Reply, scope: Scope, send: Send, device: Credential | None) -> bool:
        """Sends a reply, or why there is no room for it; returns whether it was the reply."""
        try:
            with scope["app"].unsent.holding(len(reply.body), device):
                await send_reply(send, reply)
        except OverloadedError as error:
            # Whoever would have waited with it in hand lets go of it.
            await send_reply(send, self._failed(error, scope))
            return False
        return True

    async def _call(self, scope: Scope, receive: Receive, device: Credential | None) -> Call:
        body = None
        if self._decode is not None:
            check_content(scope)
            body = self._read(await scope["app"].bodies.read(scope, receive, device))
        return Call(scope, device=device, body=body)

    async def _authenticate(self, scope: Scope) -> Credential | None:
        assert self._credentials is not None
        authorization = header(scope, b"authorization")
        if self._operation.caller is Caller.DEVICE:
            return await self._credentials.identify(authorization)
        self._credentials.authenticate_operator(authorization)
        return None

    def _read(self, raw: bytes) -> Any:
        assert self._decode is not None
        try:
            return self._decode(raw)
        except msgspec.MsgspecError as error:
            raise invalid_body(error) from error
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"text that is not UTF-8: {error.reason}") from error
        except RecursionError:
            raise MalformedRequestError("the body is nested too deeply") from None

    def _waits(self, call: Call) -> bool:
        operation = self._operation
        return operation.waits or (operation.waits_if_preferred and call.header(b"prefer") is not None)

    async def _answer_while_there(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers while the caller is there and its key holds; else the work ends, and nothing counts as delivered."""
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(_until_gone(receive))
            revoked = tasks.create_task(self._until_revoked(call))
            answering = tasks.create_task(self._answer(call, scope, send, gone))
            await asyncio.wait([gone, revoked, answering], return_when=asyncio.FIRST_COMPLETED)
            if call.is_sent:
                # What follows the last byte (the acknowledgement) is not ended by a caller who leaves.
                await asyncio.wait([answering])
            is_refused = revoked.done() and not answering.done() and not call.is_begun
            for task in (gone, revoked, answering):
                task.cancel()
        if is_refused and self._credentials is not None:
            await send_reply(send, self._failed(self._credentials.refusal(call.device), call.scope))

    async def _until_revoked(self, call: Call) -> None:
        if self._credentials is None or self._operation.caller is not Caller.DEVICE:
            await asyncio.Event().wait()
        else:
            await self._credentials.until_revoked(call.device)

    async def _answer(self, call: Call, scope: Scope, send: Send, gone: "asyncio.Task[None]") -> None:
        try:
            reply = await self._operation.handler(call)
        except Exception as error:  # noqa: BLE001 one table turns it into a reply
            reply = self._failed(error, call.scope)
        call.is_begun = True
        is_sent = await self._send(reply, scope, send, call.device)
        call.is_sent = is_sent and not gone.done()
        if reply.on_sent is not None and call.is_sent:
            try:
                await reply.on_sent()
            except FieldpostError as error:
                # The answer stays undelivered and comes again.
                log.warning("acknowledgement_failed", summed=True, error=repr(error))

    def _failed(self, error: Exception, scope: Mapping[str, Any]) -> Reply:
        if not isinstance(error, FieldpostError):
            log.error("request_failed", summed=True, path=scope["path"], exc_info=error)
        return self._to_reply(error, instance=scope["path"])


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
