"""Gateway and hub in the test's own process, over real embedded engines and a real socket; no processor, no worker."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
from starlette.routing import BaseRoute

from fieldpost.clock import SystemClock
from fieldpost.house import assemble
from fieldpost.messages.devices import DeviceKind, NewDevice
from fieldpost.observability import Metrics
from fieldpost.ports.backends import Backends
from fieldpost.roles.hub.hub import Hub
from fieldpost.roles.hub.limits import Limits
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.settings import HubSettings, ModelSettings, ServerSettings, Settings, load
from fieldpost.web.application import build
from fieldpost.web.server import reserve, serve
from fieldpost.wiring.opening import open_backends


class Doors(msgspec.Struct, frozen=True, kw_only=True):
    """What a test may reach of them."""

    backends: Backends
    answers: Answers
    intake: Intake
    mailbox: Mailbox
    hub: Hub
    port: int
    device_id: int
    device_key: str
    operator_key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def device(self) -> httpx.AsyncClient:
        """A client that speaks as the device."""
        return self.client(self.device_key)

    def operator(self) -> httpx.AsyncClient:
        """A client that speaks as the operator."""
        return self.client(self.operator_key)

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)


@asynccontextmanager
async def open_doors(
    directory: Path,
    *,
    hub_settings: HubSettings | None = None,
    limits: Limits | None = None,
    server_settings: ServerSettings | None = None,
) -> AsyncIterator[Doors]:
    """A gateway and a hub with one device, listening on a free port."""
    clock = SystemClock()
    settings = _settings(directory, hub_settings or HubSettings())
    async with open_backends(settings, clock) as backends, asyncio.TaskGroup() as tasks:
        house = assemble(settings, backends, clock, instance="doors", source=random.Random(1), limits=limits)
        made = await house.registration.add(NewDevice(kind=DeviceKind.TRUCK, name="Truck 17"))
        running = [tasks.create_task(house.mailbox.run()), tasks.create_task(house.hub.run())]
        routes = [*house.gateway.routes(), *house.hub.routes()]
        async with open_port(routes, metrics=house.metrics, settings=server_settings) as port:
            yield Doors(
                backends=backends,
                answers=house.answers,
                intake=house.intake,
                mailbox=house.mailbox,
                hub=house.hub,
                port=port,
                device_id=made.device.id,
                device_key=made.key,
                operator_key=(directory / "operator.key").read_text().strip(),
            )
        for task in running:
            task.cancel()


@asynccontextmanager
async def open_port(
    routes: Sequence[BaseRoute],
    *,
    metrics: Metrics | None = None,
    not_ready: Sequence[str] = (),
    degraded: Sequence[str] = (),
    settings: ServerSettings | None = None,
) -> AsyncIterator[int]:
    """The port on which these routes are served while the context lasts."""
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    application = build(
        routes,
        metrics=metrics or Metrics(),
        ready=lambda: not_ready,
        degraded=lambda: degraded,
        settings=settings,
    )
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(application, reserve("127.0.0.1", 0), on_listening=listening.set_result))
        yield await asyncio.wait_for(listening, 30)
        serving.cancel()


def _settings(directory: Path, hub: HubSettings) -> Settings:
    defaults = load({})
    return msgspec.structs.replace(
        defaults,
        data=msgspec.structs.replace(defaults.data, directory=str(directory)),
        model=ModelSettings(url="echo:", name="echo"),
        server=ServerSettings(port=0),
        hub=hub,
    )
