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
