"""The ASGI application of a process: its roles' routes, what every process tells, and problem documents for the rest."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Router

from fieldpost.errors import FieldpostError, OverloadedError
from fieldpost.messages.problems import problem
from fieldpost.observability import Metrics, get_logger
from fieldpost.web import openapi, probes
from fieldpost.web.bodies import Receive, Scope
from fieldpost.web.operations import Call, Caller, Operation, Reply
from fieldpost.web.problems import error_reply, problem_reply
from fieldpost.web.routing import OperationRoute, routes_of
from fieldpost.web.sending import Send, send_reply

#: Calls in hand at once, those that wait included.
_MAX_IN_HAND = 10_000

log = get_logger()


class Application:
    """Routes calls; whatever nobody answers becomes a problem document."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._router = Router(routes, redirect_slashes=False)
        self._in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's router raises for 404 and 405 when it sits in an application, and answers in plain text when not.
        scope["app"] = self
        if scope["type"] != "http":
            await self._router(scope, receive, send)
        elif self._in_hand >= _MAX_IN_HAND:
            await send_reply(send, error_reply(OverloadedError(), instance=scope["path"]))
        else:
            self._in_hand += 1
            try:
                await self._answer(scope, receive, send)
            finally:
                self._in_hand -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_started = False

        async def send_and_note(message: Any) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._router(scope, receive, send_and_note)
        except HTTPException as error:
            await send_reply(send, _http_problem(error, scope["path"]))
        except Exception as error:
            if is_started or not isinstance(error, FieldpostError):
                log.exception("request_failed", path=scope["path"])
            if is_started:
                raise
            await send_reply(send, error_reply(error, instance=scope["path"]))


def build(
    routes: Sequence[BaseRoute],
    *,
    metrics: Metrics,
    ready: Callable[[], Sequence[str]],
) -> Application:
    """The application.

    Args:
        ready: the reasons why this process cannot serve; none when it can.
    """
    every = [*routes, *routes_of(probes.operations(metrics, ready), None)]
    operations = [operation for route in every if isinstance(route, OperationRoute) for operation in route.operations]
    document = openapi.document(operations)
    return Application([*every, *routes_of([_document_operation(msgspec.json.encode(document))], None)])


def _document_operation(encoded: bytes) -> Operation:
    async def describe(_call: Call) -> Reply:
        return Reply(body=encoded)

    return Operation(
        method="GET",
        path="/openapi.json",
        summary="Describes all of this",
        handler=describe,
        caller=Caller.ANYONE,
        is_documented=False,
    )


def _http_problem(error: HTTPException, path: str) -> Reply:
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    if error.status_code == 405:
        document = problem("method-not-allowed", "This method is not possible here.", 405, instance=path)
    elif error.status_code == 404:
        document = problem("not-found", "There is nothing of this name here.", 404, instance=path)
    else:
        document = problem("http-error", str(error.detail), error.status_code, instance=path)
    return problem_reply(document, headers=headers)
