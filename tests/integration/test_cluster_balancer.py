"""NGINX in front of gateways and hubs, with servers of ours in their place."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from fieldpost.cluster.child import Child
from fieldpost.cluster.engines import nginx
from fieldpost.cluster.ports import free_ports
from tests.support.engines import Engines, children_of
from tests.support.waiting import eventually


class Instance:
    """Answers every request with its name, or reads it and hangs up."""

    def __init__(self, name: str, *, is_rude: bool = False) -> None:
        self.name = name
        self.port = 0
        self.heard: list[bytes] = []
        self._is_rude = is_rude

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heard.append(head)
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length:")
                    ),
                    0,
                )
                await reader.readexactly(length)
                if self._is_rude:
                    return
                body = self.name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


class Balancer:
    """A real NGINX over such instances."""

    def __init__(self, place: Engines, directory: Path) -> None:
        port, status_port = place.ports(2)
        self.url = f"http://127.0.0.1:{port}"
        self._place = place
        self._directory = directory
        self._what = nginx.Balancer(host="127.0.0.1", port=port, status_port=status_port)
        self._child: Child | None = None

    async def start(self) -> None:
        program = nginx.server(self._directory, self._what, user=self._place.user)
        self._child = await asyncio.to_thread(self._place.run, self._place.start(program))
        await eventually(self._what.is_ready)

    async def balance(self, *, gateways: list[Instance], hubs: list[Instance]) -> None:
        """Returns when NGINX has read it and its earlier workers are gone, with every connection they had."""
        assert self._child is not None
        earlier = set(children_of(self._child))
        upstreams = nginx.Upstreams(gateways=[each.port for each in gateways], hubs=[each.port for each in hubs])
        nginx.write_upstreams(self._directory, upstreams, user=self._place.user)
        self._child.send(signal.SIGHUP)
        child = self._child
        await eventually(lambda: earlier.isdisjoint(children_of(child)))

    async def stop(self) -> None:
        assert self._child is not None
        await asyncio.to_thread(self._place.run, self._child.stop())


@asynccontextmanager
async def _listening(*instances: Instance) -> AsyncIterator[None]:
    servers = []
    for instance in instances:
        server = await asyncio.start_server(instance.answer, "127.0.0.1", 0)
        instance.port = server.sockets[0].getsockname()[1]
        servers.append(server)
    try:
        yield
    finally:
        for server in servers:
            server.close()


@pytest.fixture
async def balancer(engine_place: Engines) -> AsyncIterator[Balancer]:
    directory = engine_place.directory / f"balancer-{engine_place.ports(1)[0]}"
    directory.mkdir()
    directory.chmod(0o711)
    made = Balancer(engine_place, directory)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(balancer: Balancer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=balancer.url, timeout=30) as opened:
        yield opened


def _of(device: int) -> dict[str, str]:
    return {"Authorization": f"Bearer fp_{device}_secret"}


async def test_streams_go_to_hubs_and_everything_else_to_gateways(
    balancer: Balancer, client: httpx.AsyncClient
) -> None:
    gateway, hub = Instance("gateway"), Instance("hub")
    async with _listening(gateway, hub):
        await balancer.balance(gateways=[gateway], hubs=[hub])

        assert (await client.get("/v1/stream", headers={**_of(1), "Accept": "text/event-stream"})).text == "hub"
        for path in ("/", "/v1/requests", "/v1/streams", "/v1/requests/1/events", "/admin/devices", "/health"):
            assert (await client.get(path, headers=_of(1))).text == "gateway"


async def test_a_device_stays_at_its_hub_and_others_go_elsewhere(balancer: Balancer, client: httpx.AsyncClient) -> None:
    hubs = [Instance("one"), Instance("two"), Instance("three")]
    async with _listening(*hubs):
        await balancer.balance(gateways=[], hubs=hubs)
        first = {device: (await client.get("/v1/stream", headers=_of(device))).text for device in range(1, 40)}
        again = {device: (await client.get("/v1/stream", headers=_of(device))).text for device in range(1, 40)}

        await balancer.balance(gateways=[], hubs=hubs[:2])
        fewer = {device: (await client.get("/v1/stream", headers=_of(device))).text for device in range(1, 40)}

    assert again == first
    assert set(first.values()) == {"one", "two", "three"}
    # Only those whose hub is gone move.
    assert {device for device in first if first[device] != fewer[device]} == {
        device for device, name in first.items() if name == "three"
    }


async def test_a_post_is_never_sent_twice(balancer: Balancer, client: httpx.AsyncClient) -> None:
    rude = [Instance("one", is_rude=True), Instance("two", is_rude=True), Instance("three", is_rude=True)]
    async with _listening(*rude):
        await balancer.balance(gateways=rude, hubs=[])
        replies = [await client.post("/v1/requests", json={"number": number}) for number in range(10)]

    heard = sum(head.startswith(b"POST") for each in rude for head in each.heard)
    assert {reply.status_code for reply in replies} == {504}
    assert {reply.json()["type"] for reply in replies} == {"urn:fieldpost:problem:outcome-unknown"}
    assert heard <= len(replies)
    assert heard > 0


async def test_a_post_that_nobody_heard_goes_to_another_instance(balancer: Balancer, client: httpx.AsyncClient) -> None:
    there, gone = Instance("there"), Instance("gone")
    gone.port = free_ports(1)[0]
    async with _listening(there):
        await balancer.balance(gateways=[gone, there], hubs=[])

        replies = [await client.post("/v1/requests", json={}) for _ in range(10)]

    assert {reply.text for reply in replies} == {"there"}


async def test_a_body_of_a_mebibyte_passes_and_a_huge_one_is_refused_in_our_words(
    balancer: Balancer, client: httpx.AsyncClient
) -> None:
    gateway = Instance("gateway")
    async with _listening(gateway):
        await balancer.balance(gateways=[gateway], hubs=[])

        whole = await client.post("/v1/requests", content=b"x" * 1_048_576)
        huge = await client.post("/v1/requests", content=b"x" * 3_000_000)
        piece = await client.patch("/v1/uploads/1", content=b"x" * 10_485_760)

    assert (whole.text, piece.text) == ("gateway", "gateway")
    assert huge.status_code == 413
    assert huge.json()["type"] == "urn:fieldpost:problem:request-too-large"
