"""The ASGI application of a process: its roles' routes, what every process tells, and problem documents for the rest."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Router

from fieldpost.errors import FieldpostError
from fieldpost.messages.problems import problem
from fieldpost.observability import Metrics, get_logger
from fieldpost.settings import ServerSettings
from fieldpost.web import openapi, probes
from fieldpost.web.bodies import Bodies, Receive, Scope
from fieldpost.web.calls import CallsInHand
from fieldpost.web.operations import Call, Caller, Operation, Reply
from fieldpost.web.problems import elsewhere, error_reply, problem_reply
from fieldpost.web.routing import OperationRoute, routes_of
from fieldpost.web.sending import Send, send_reply
from fieldpost.web.unsent import UnsentReplies

log = get_logger()


class Application:
    """Routes calls; whatever nobody answers becomes a problem document.

    Has the bounds that all endpoints of the process share, which find them as `scope["app"]`.
    """

    def __init__(self, routes: Sequence[BaseRoute], calls: CallsInHand, bodies: Bodies) -> None:
        self._router = Router(routes, redirect_slashes=False)
        self.calls = calls
        self.bodies = bodies
        self.unsent = UnsentReplies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's router raises for 404 and 405 when it sits in an application, and answers in plain text when not.
        scope["app"] = self
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._router(scope, receive, send)

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
                log.exception("request_failed", summed=True, path=scope["path"])
            if is_started:
                raise
            await send_reply(send, error_reply(error, instance=scope["path"]))


def build(
    routes: Sequence[BaseRoute],
    *,
    metrics: Metrics,
    ready: Callable[[], Sequence[str]],
    degraded: Callable[[], Sequence[str]] = tuple,
    settings: ServerSettings | None = None,
) -> Application:
    """The application.

    Args:
        ready: the reasons why this process cannot serve; none when it can.
        degraded: what of it does not work although it can serve.
    """
    every = [*routes, *routes_of(probes.operations(metrics, ready, degraded), None)]
    operations = [operation for route in every if isinstance(route, OperationRoute) for operation in route.operations]
    document = openapi.document(operations)
    every += routes_of([_document_operation(msgspec.json.encode(document))], None)
    limit = (settings or ServerSettings()).max_calls_per_device
    return Application(every, CallsInHand(limit_per_device=limit), Bodies())


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
        if error.detail != HTTPStatus(405).phrase:
            return elsewhere(msgspec.structs.replace(document, detail=error.detail), headers=headers)
    elif error.status_code == 404:
        document = problem("not-found", "There is nothing of this name here.", 404, instance=path)
    else:
        document = problem("http-error", str(error.detail), error.status_code, instance=path)
    return problem_reply(document, headers=headers)
