"""Folder answers: one device's broken folder is nothing to the others."""

import asyncio
from pathlib import Path

import msgspec

from fieldpost.backends.local_folder.folders import LocalFolders
from fieldpost.errors import BackendUnavailableError
from fieldpost.messages.requests import Channel, Input, RequestBody
from fieldpost.observability import Metrics
from fieldpost.ports.backends import Backends
from fieldpost.roles.processor import Processor
from fieldpost.services.intake import Intake
from fieldpost.services.working import Lane
from fieldpost.settings import Settings
from tests.support.clock import FakeClock
from tests.support.waiting import eventually
from tests.unit.services.conftest import DEVICE, OTHER


class OneFolderAway(LocalFolders):
    """The real folders, of which the first device's cannot be written: root, who may run this, writes everywhere."""

    is_away = True

    async def deliver(self, device_id: int, name: str, content: bytes) -> None:
        if self.is_away and device_id == DEVICE.device_id:
            raise BackendUnavailableError("Permission denied")
        await super().deliver(device_id, name, content)


async def test_a_folder_that_cannot_be_written_holds_up_no_other_device(
    settings: Settings, backends: Backends, intake: Intake, clock: FakeClock, tmp_path: Path
) -> None:
    responses = tmp_path / "Cloud" / "Responses"
    folders = OneFolderAway(tmp_path / "Cloud")
    backends = msgspec.structs.replace(backends, folders=folders)
    processor = Processor(settings=settings, backends=backends, clock=clock, metrics=Metrics(), instance="one")
    lane = Lane(settings=settings, backends=backends, clock=clock, model="echo", holder="one", metrics=Metrics())
    running = [asyncio.create_task(processor.run()), asyncio.create_task(lane.run())]
    try:
        for device in (DEVICE, OTHER):
            await intake.accept(
                device,
                RequestBody(input=Input(prompt="a question")),
                channel=Channel.FOLDER,
                file_name="question.txt",
                idempotency_key=f"key {device.device_id}",
            )
            if device is DEVICE:
                # The oldest answer is the one in trouble.
                await eventually(lambda: _waits(backends))
                clock.advance(1)

        await eventually(lambda: any((responses / "2").glob("*")))

        folders.is_away = False
        clock.advance(60)
        await eventually(lambda: any((responses / "1").glob("*")))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _waits(backends: Backends) -> bool:
    return any(await backends.ledgers["shard1"].deliveries.undelivered_files(limit=1))
