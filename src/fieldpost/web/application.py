"""The ASGI application of a process: its roles' routes, health, readiness, metrics, and problem documents for the rest."""

from collections.abc import Callable, Sequence

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router

from fieldpost.errors import FieldpostError
from fieldpost.messages.problems import problem
from fieldpost.observability import Metrics, get_logger
from fieldpost.web.endpoint import Receive, Scope, Send, send_reply
from fieldpost.web.operations import Reply
from fieldpost.web.problems import error_reply, problem_reply

log = get_logger()


class Application:
    """Routes calls; whatever nobody answers becomes a problem document."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's router raises for 404 and 405 when it sits in an application, and answers in plain text when not.
        scope["app"] = self
        if scope["type"] != "http":
            await self._router(scope, receive, send)  # type: ignore[arg-type]
            return
        is_started = False

        async def send_and_note(message: dict[str, object]) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._router(scope, receive, send_and_note)  # type: ignore[arg-type]
        except HTTPException as error:
            await send_reply(send, _http_problem(error, scope["path"]))
        except Exception as error:
            if is_started:
                raise
            if not isinstance(error, FieldpostError):
                log.exception("request_failed", path=scope["path"])
            await send_reply(send, error_reply(error, instance=scope["path"]))


def build(routes: Sequence[BaseRoute], *, metrics: Metrics, ready: Callable[[], Sequence[str]]) -> Application:
    """The application.

    Args:
        ready: the reasons why this process cannot serve; none when it can.
    """

    async def health(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_reply(send, Reply(body=b'{"status":"alive"}'))

    async def readiness(_scope: Scope, _receive: Receive, send: Send) -> None:
        reasons = list(ready())
        body = msgspec.json.encode({"ready": not reasons, "reasons": reasons})
        await send_reply(send, Reply(status=503 if reasons else 200, body=body))

    async def numbers(_scope: Scope, _receive: Receive, send: Send) -> None:
        body = generate_latest(metrics.registry)
        await send_reply(send, Reply(body=body, content_type=CONTENT_TYPE_LATEST.encode()))

    own = [
        Route("/health", _Plain(health), methods=["GET"]),
        Route("/ready", _Plain(readiness), methods=["GET"]),
        Route("/metrics", _Plain(numbers), methods=["GET"]),
    ]
    return Application([*routes, *own])


class _Plain:
    """An ASGI application that Starlette does not take for a request handler."""

    def __init__(self, application: Callable[..., object]) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)  # type: ignore[misc]


def _http_problem(error: HTTPException, path: str) -> Reply:
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    if error.status_code == 405:
        document = problem("method-not-allowed", "This method is not possible here.", 405, instance=path)
    elif error.status_code == 404:
        document = problem("not-found", "There is nothing of this name here.", 404, instance=path)
    else:
        document = problem("http-error", str(error.detail), error.status_code, instance=path)
    return problem_reply(document, headers=headers)
