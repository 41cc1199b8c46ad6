"""Operations as routes: one route per path, so that a wrong method is answered with all that are possible."""

from collections.abc import Iterable, Mapping, Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from fieldpost.services.credentials import Credentials
from fieldpost.web.bodies import Receive, Scope
from fieldpost.web.endpoint import Endpoint
from fieldpost.web.operations import Operation
from fieldpost.web.sending import Send


class OperationRoute(Route):
    """The operations of one path; the OpenAPI document finds them here."""

    def __init__(self, path: str, operations: Sequence[Operation], credentials: Credentials | None) -> None:
        self.operations = operations
        endpoints = {operation.method: Endpoint(operation, credentials) for operation in operations}
        self._other_methods = " ".join(filter(None, (operation.other_methods for operation in operations)))
        super().__init__(path, _Methods(endpoints), methods=list(endpoints))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a call, or says which methods there are, and what else there is to say."""
        if self._other_methods and self.methods and scope["method"] not in self.methods:
            allowed = {"Allow": ", ".join(sorted(self.methods))}
            raise HTTPException(status_code=405, detail=self._other_methods, headers=allowed)
        await super().handle(scope, receive, send)


def routes_of(operations: Iterable[Operation], credentials: Credentials | None) -> list[BaseRoute]:
    """Routes in the order in which their paths come first."""
    paths: dict[str, list[Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, []).append(operation)
    return [OperationRoute(path, of_path, credentials) for path, of_path in paths.items()]


class _Methods:
    """Chooses by method; a HEAD is a GET whose body the server leaves out."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        await self._endpoints["GET" if method == "HEAD" else method](scope, receive, send)
