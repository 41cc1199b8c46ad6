"""The gateway: the HTTP door, operators' HTTP and the page. Holds no state; every answer comes from the services."""

from starlette.routing import BaseRoute

from fieldpost.clock import Clock
from fieldpost.ports.backends import Backends
from fieldpost.roles.gateway.admin import AdminOperations
from fieldpost.roles.gateway.broadcasts import BroadcastOperations
from fieldpost.roles.gateway.chat import ChatOperations
from fieldpost.roles.gateway.page import PageOperations
from fieldpost.roles.gateway.requests import RequestOperations
from fieldpost.roles.gateway.responses import ResponseOperations
from fieldpost.services.answers import Answers
from fieldpost.services.broadcasting import Broadcasting
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.services.registration import Registration
from fieldpost.settings import Settings
from fieldpost.web.routing import routes_of


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
        broadcasting: Broadcasting,
        intake: Intake,
        answers: Answers,
        mailbox: Mailbox,
    ) -> None:
        self._credentials = credentials
        requests = RequestOperations(
            settings=settings.server,
            models=backends.model_names,
            intake=intake,
            answers=answers,
            mailbox=mailbox,
            clock=clock,
        )
        responses = ResponseOperations(settings=settings.server, answers=answers)
        chat = ChatOperations(
            settings=settings.chat, backends=backends, clock=clock, intake=intake, answers=answers, mailbox=mailbox
        )
        admin = AdminOperations(backends=backends, registration=registration)
        broadcasts = BroadcastOperations(broadcasting)
        page = PageOperations(backends=backends, clock=clock, default_model=intake.default_model)
        # The most used first: routes are tried in this order.
        self._operations = [
            *requests.operations(),
            *responses.operations(),
            *chat.operations(),
            *admin.operations(),
            *broadcasts.operations(),
            *page.operations(),
        ]

    def routes(self) -> list[BaseRoute]:
        """A route per path."""
        return routes_of(self._operations, self._credentials)
