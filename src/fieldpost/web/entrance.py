"""What a port answers from its first moment: that the process starts, until its application is there."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.routing import BaseRoute, Match

from fieldpost.errors import StartingError
from fieldpost.web import probes
from fieldpost.web.application import Application
from fieldpost.web.bodies import Bodies, Receive, Scope
from fieldpost.web.calls import CallsInHand
from fieldpost.web.problems import error_reply
from fieldpost.web.routing import routes_of
from fieldpost.web.sending import Send, send_reply


class Entrance:
    """The one application that a server knows; which one answers behind it may change between two calls.

    Args:
        reasons: why nothing is served yet, for `/ready`.
    """

    def __init__(self, reasons: Callable[[], Sequence[str]]) -> None:
        routes = [*routes_of(probes.standing(reasons), None), _Everything()]
        self._behind = Application(routes, CallsInHand(limit_per_device=1), Bodies())

    def open(self, application: Application) -> None:
        """Leads to this application from the next call on."""
        self._behind = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._behind(scope, receive, send)


class _Everything(BaseRoute):
    """Refuses whatever is asked for."""

    def matches(self, _scope: Scope) -> tuple[Match, Scope]:
        """All of it."""
        return Match.FULL, {}

    async def handle(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Says when to come again; to a WebSocket too, whose handshake is answered as any other call."""
        reply = error_reply(StartingError(), instance=scope["path"])
        await send_reply(send if scope["type"] == "http" else _before_accepting(send), reply)


def _before_accepting(send: Send) -> Send:
    """Source: ASGI's extension `websocket.http.response`, which uvicorn has."""

    def send_instead(message: MutableMapping[str, Any]) -> Awaitable[None]:
        return send({**message, "type": f"websocket.{message['type']}"})

    return send_instead
