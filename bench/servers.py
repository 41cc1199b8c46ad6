"""The servers that are measured, each a process of its own: `python -m bench.servers NAME PORT DIRECTORY`."""

import sys
from collections.abc import Mapping

import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fieldpost import settings
from fieldpost.house import ROLES
from fieldpost.messages.requests import RequestBody
from fieldpost.observability import configure_logs
from fieldpost.supervisor.running import run

#: A hub whose connections may all be one device's, which then hears all its answers without acknowledging any. A sweep would
#: look at each answer once for every connection: as many as no device has.
_FLEET: Mapping[str, object] = {"max_connections": 50_000, "max_unacknowledged": 1_000_000, "sweep_seconds": 60.0}

_decode = msgspec.json.Decoder(RequestBody).decode


async def _bare(request: Request) -> Response:
    """What a bare Starlette application does with the same body: read it, check it, answer as long a body."""
    _decode(await request.body())
    return Response(
        b'{"id":"01a20e63-66c3-7d29-857c-57c2fa8f631f","status":"queued"}', 202, media_type="application/json"
    )


def bare_starlette(port: int) -> None:
    application = Starlette(routes=[Route("/v1/requests", _bare, methods=["POST"])])
    uvicorn.run(application, host="127.0.0.1", port=port, log_level="warning", access_log=False, loop="uvloop")


def fieldpost(port: int, directory: str, without: tuple[str, ...], **sections: Mapping[str, object]) -> None:
    loaded = settings.load(
        {},
        overrides={
            "server": {"port": port},
            "data": {"directory": directory},
            "model": {"url": "echo:", "name": "echo"},
            "queues": {"max_requests": 10_000_000, "max_results": 10_000_000},
            "log": {"level": "warning"},
            **sections,
        },
    )
    configure_logs(style="json", level="warning")
    uvloop.run(run(loaded, roles=[role for role in ROLES if role not in without]))


if __name__ == "__main__":
    name, port, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    match name:
        case "starlette":
            bare_starlette(port)
        case "fieldpost":
            fieldpost(port, directory, ())
        case "fieldpost-waiting":
            fieldpost(port, directory, ("processor", "worker"))
        case "fieldpost-hub":
            fieldpost(port, directory, (), hub=_FLEET)
        case _:
            sys.exit(f"unknown server {name}")
