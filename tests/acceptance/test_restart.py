"""What is in the queue when the process ends is known to the next one, before the ledger has it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from fieldpost.house import ROLES
from fieldpost.settings import ModelSettings, ServerSettings, Settings, load
from fieldpost.supervisor.running import run

BODY = {"input": {"prompt": "How long may I drive?"}}


@asynccontextmanager
async def _up(data: Path, *, without: str = "", model: str = "echo") -> AsyncIterator[httpx.AsyncClient]:
    """The product over this directory, perhaps without a role; an operator's client."""
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        others = [role for role in ROLES if role != without]
        running = run(
            _settings(data, model),
            on_listening=listening.set_result,
            stop=stop,
            roles=others,
        )
        tasks.create_task(running)
        async with asyncio.timeout(60):
            port = await listening
        key = (data / "operator.key").read_text().strip()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=_bearer(key), timeout=60) as client:
            yield client
        stop.set()


def _settings(data: Path, model: str) -> Settings:
    return msgspec.structs.replace(
        load({}),
        data=msgspec.structs.replace(load({}).data, directory=str(data)),
        model=ModelSettings(url="echo:", name=model),
        server=ServerSettings(port=0),
    )


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def _post(client: httpx.AsyncClient, device: dict[str, str], key: str, **more: Any) -> httpx.Response:
    return await client.post("/v1/requests", json={**BODY, **more}, headers=device | {"Idempotency-Key": key})


async def test_what_waits_in_the_queue_is_found_cancelled_and_kept_from_other_requests_after_a_restart(
    data: Path,
) -> None:
    async with _up(data, without="processor") as operator:
        made = (await operator.post("/admin/devices", json={"kind": "truck", "name": "Truck 17"})).json()
        other = (await operator.post("/admin/devices", json={"kind": "truck", "name": "Truck 18"})).json()
        device = _bearer(made["key"])
        accepted = await _post(operator, device, "order-1")
        place = accepted.headers["location"]

    async with _up(data, without="processor") as again:
        status = await again.get(place, headers=device)
        of_another = await again.get(place, headers=_bearer(other["key"]))
        same = await _post(again, device, "order-1")
        another = await _post(again, device, "order-1", input={"prompt": "What else?"})
        cancelled = await again.delete(place, headers=device)

    assert (202, 200, 404) == (accepted.status_code, status.status_code, of_another.status_code)
    assert ("queued", "echo") == (status.json()["status"], status.json()["model"])
    assert (202, place) == (same.status_code, same.headers["location"])
    assert (409, "urn:fieldpost:problem:idempotency-conflict") == (another.status_code, another.json()["type"])
    assert (202, "cancelled") == (cancelled.status_code, cancelled.json()["status"])


async def test_a_key_is_known_after_a_restart_also_when_it_was_answered_before(data: Path) -> None:
    async with _up(data) as operator:
        made = (await operator.post("/admin/devices", json={"kind": "truck", "name": "Truck 17"})).json()
        device = _bearer(made["key"])
        first = await _post(operator, device | {"Prefer": "wait=30"}, "order-1")

    async with _up(data, model="other") as again:
        another = await _post(again, device, "order-1", input={"prompt": "What else?"})
        awaited = await _post(again, device | {"Prefer": "wait=5"}, "order-1", input={"prompt": "What else?"})
        # The same words are the same request, whatever the default model is by now.
        same = await _post(again, device | {"Prefer": "wait=5"}, "order-1")

    assert (200, 409, 409, 200) == (first.status_code, another.status_code, awaited.status_code, same.status_code)
    assert first.json() == same.json()
