"""Calls that wait, and what ends them."""

import asyncio
from pathlib import Path

from tests.support.doors import open_doors
from tests.support.waiting import eventually


async def test_a_key_that_stops_holding_ends_the_calls_that_wait_with_it(tmp_path: Path) -> None:
    async with open_doors(tmp_path / "data") as doors, doors.device() as device, doors.operator() as operator:
        polling = asyncio.create_task(device.get("/v1/responses", params={"wait": 60}))
        await eventually(lambda: doors.device_id in doors.mailbox.device_ids)
        await operator.post(f"/admin/devices/{doors.device_id}/rotate")
        answer = await polling
        await eventually(lambda: () == doors.mailbox.device_ids)

    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:fieldpost:problem:unauthenticated"


async def test_a_device_that_is_disabled_meanwhile_is_told_so(tmp_path: Path) -> None:
    async with open_doors(tmp_path / "data") as doors, doors.device() as device, doors.operator() as operator:
        polling = asyncio.create_task(device.get("/v1/responses", params={"wait": 60}))
        await eventually(lambda: doors.device_id in doors.mailbox.device_ids)
        await operator.patch(f"/admin/devices/{doors.device_id}", json={"disabled": True})
        answer = await polling

    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:fieldpost:problem:device-disabled"


async def test_an_acknowledgement_that_comes_early_is_told_that_there_is_no_answer_yet(tmp_path: Path) -> None:
    async with open_doors(tmp_path / "data") as doors, doors.device() as device:
        accepted = await device.post("/v1/requests", json={"input": {"prompt": "How long may I drive?"}})
        early = await device.post(f"{accepted.headers['location']}/ack")

    document = early.json()
    assert early.status_code == 409
    assert (document["title"], document["detail"]) == (
        "This does not go with the state that the request is in.",
        "it has no answer yet",
    )
