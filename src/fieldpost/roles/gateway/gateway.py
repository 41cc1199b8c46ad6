"""The gateway: the HTTP door, operators' HTTP and the page. Holds no state; every answer comes from the services."""

from collections.abc import Sequence

import msgspec
from starlette.routing import BaseRoute, Route

from fieldpost.clock import Clock
from fieldpost.ports.backends import Backends
from fieldpost.roles.gateway.admin import AdminOperations
from fieldpost.roles.gateway.chat import ChatOperations
from fieldpost.roles.gateway.page import PageOperations
from fieldpost.roles.gateway.requests import RequestOperations
from fieldpost.roles.gateway.responses import ResponseOperations
from fieldpost.services.answers import Answers
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.services.registration import Registration
from fieldpost.settings import Settings
from fieldpost.web.endpoint import Endpoint, Receive, Scope, Send
from fieldpost.web.openapi import document
from fieldpost.web.operations import Call, Caller, Operation, Reply, header


class Gateway:
    """All HTTP operations but the stream's."""

    name = "gateway"

    def __init__(
        self,
        *,
        settings: Settings,
        backends: Backends,
        clock: Clock,
        credentials: Credentials,
        registration: Registration,
        intake: Intake,
        answers: Answers,
        mailbox: Mailbox,
    ) -> None:
        self._credentials = credentials
        self._requests = RequestOperations(
            settings=settings.server, clock=clock, intake=intake, answers=answers, mailbox=mailbox
        )
        self._page = PageOperations(backends=backends, clock=clock, default_model=intake.default_model)
        responses = ResponseOperations(settings=settings.server, answers=answers)
        chat = ChatOperations(
            settings=settings.chat, backends=backends, clock=clock, intake=intake, answers=answers, mailbox=mailbox
        )
        admin = AdminOperations(backends=backends, registration=registration)
        self._operations: Sequence[Operation] = [
            *self._requests.operations(),
            *responses.operations(),
            *chat.operations(),
            *admin.operations(),
        ]

    def routes(self) -> list[BaseRoute]:
        """A route per operation, in the order of their use."""
        described = msgspec.json.encode(document(self._operations, version=self._page.version))

        async def openapi(_call: Call) -> Reply:
            return Reply(body=described)

        own = Operation(method="GET", path="/openapi.json", summary="This API", handler=openapi, caller=Caller.ANYONE)
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in [*self._operations, *self._page.operations(), own]:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        return [Route(path, self._methods(path, of_path), methods=list(of_path)) for path, of_path in by_path.items()]

    def _methods(self, path: str, operations: dict[str, Operation]) -> "_Methods":
        endpoints = {method: Endpoint(operation, self._credentials) for method, operation in operations.items()}
        if "GET" in endpoints:
            endpoints["HEAD"] = endpoints["GET"]
        waiting = Endpoint(self._requests.waiting_post(), self._credentials) if path == "/v1/requests" else None
        return _Methods(endpoints, waiting)


class _Methods:
    """One path's endpoints by method; one route per path, so that a wrong method is told which are right."""

    def __init__(self, endpoints: dict[str, Endpoint], waiting: Endpoint | None) -> None:
        self._endpoints = endpoints
        self._waiting = waiting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "POST" and self._waiting is not None and header(scope, b"prefer") is not None:
            await self._waiting(scope, receive, send)
            return
        await self._endpoints[method](scope, receive, send)
