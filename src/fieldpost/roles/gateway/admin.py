"""`/admin/…`: what operators may do over HTTP."""

import heapq
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from fieldpost.errors import NotFoundError
from fieldpost.messages.cursors import read_cursor, write_cursor
from fieldpost.messages.devices import Device, DeviceChange, DeviceWithKey, NewDevice
from fieldpost.messages.requests import Channel, Request, RequestStatus
from fieldpost.ports.backends import Backends
from fieldpost.ports.ledger_values import DeadLetter, RequestPage
from fieldpost.services.answers import MAX_LIST_BYTES
from fieldpost.services.queues import all_queues
from fieldpost.services.registration import Registration
from fieldpost.web.operations import AFTER_CURSOR, Call, Caller, Operation, Parameter, Reply

encode = msgspec.json.Encoder().encode

#: Device id, request, status.
Entry = tuple[int, Request, RequestStatus]

#: What the encoded response in a status is, said where the type cannot.
RESPONSE = {"$ref": "#/components/schemas/Response"}

#: Characters of a question shown in the overview.
_QUESTION_CHARACTERS = 500
_MAX_ID = 2**63 - 1

_ID = Parameter(
    name="id",
    schema={"type": "integer", "minimum": 1, "maximum": _MAX_ID},
    description="The device's id",
    place="path",
)
_AFTER_ID = Parameter(
    name="after",
    schema={"type": "integer", "minimum": 0, "maximum": _MAX_ID, "default": 0},
    description="`next` of the page before",
)
_LIMIT = Parameter(
    name="limit",
    schema={"type": "integer", "minimum": 1, "maximum": 500, "default": 100},
    description="Entries on a page",
)


class DevicePage(msgspec.Struct, frozen=True, kw_only=True):
    """Devices in order of id."""

    devices: Sequence[Device]
    next: int | None


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """One queue."""

    name: str
    depth: int


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    """All queues."""

    queues: Sequence[QueueDepth]


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters, newest first."""

    dead_letters: Sequence[DeadLetter]
    next: int | None


class RequestOverview(RequestStatus, frozen=True, kw_only=True, omit_defaults=True):
    """One request as operators see it: its status, and who asked what."""

    device_id: int
    channel: Channel
    question: str


class OverviewPage(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of all devices, newest first."""

    requests: Sequence[RequestOverview]
    next: str | None


class AdminOperations:
    """The operations and their handlers."""

    def __init__(self, *, backends: Backends, registration: Registration) -> None:
        self._backends = backends
        self._registration = registration

    def operations(self) -> list[Operation]:
        """All of them."""
        shared: dict[str, Any] = {"caller": Caller.OPERATOR, "tag": "operators"}
        return [*self._device_operations(shared), *self._overview_operations(shared)]

    def _device_operations(self, shared: dict[str, Any]) -> list[Operation]:
        one: dict[str, Any] = {**shared, "path": "/admin/devices/{id}", "parameters": [_ID]}
        return [
            Operation(
                **shared,
                method="POST",
                path="/admin/devices",
                summary="Adds a device and gives out its key",
                handler=self._add,
                body=NewDevice,
                example={"kind": "truck", "name": "Truck 17"},
                answers={201: ("Added", DeviceWithKey, "application/json")},
                problems=(409, 503, 507),
            ),
            Operation(
                **shared,
                method="GET",
                path="/admin/devices",
                summary="Lists devices",
                handler=self._list,
                parameters=[_AFTER_ID, _LIMIT],
                answers={200: ("A page", DevicePage, "application/json")},
                problems=(422, 503),
            ),
            Operation(
                **one,
                method="GET",
                summary="Shows a device",
                handler=self._show,
                answers={200: ("The device", Device, "application/json")},
                problems=(404, 503),
            ),
            Operation(
                **one,
                method="PATCH",
                summary="Renames, disables or enables a device",
                handler=self._change,
                body=DeviceChange,
                example={"disabled": True},
                answers={200: ("The device", Device, "application/json")},
                problems=(404, 503, 507),
            ),
            Operation(
                **one,
                method="DELETE",
                summary="Removes a device; its id is never used again",
                handler=self._remove,
                answers={204: ("Removed", None, "")},
                problems=(404, 503, 507),
            ),
            Operation(
                **{**one, "path": "/admin/devices/{id}/rotate"},
                method="POST",
                summary="Gives out a new key; the old one stops working",
                handler=self._rotate,
                answers={200: ("The device and its key", DeviceWithKey, "application/json")},
                problems=(404, 503, 507),
            ),
        ]

    def _overview_operations(self, shared: dict[str, Any]) -> list[Operation]:
        return [
            Operation(
                **shared,
                method="GET",
                path="/admin/requests",
                summary="Lists the requests of all devices, newest first",
                handler=self._requests,
                parameters=[AFTER_CURSOR, _LIMIT],
                answers={200: ("A page", OverviewPage, "application/json")},
                refinements={"RequestOverview": {"properties": {"response": RESPONSE}}},
                problems=(422, 503),
            ),
            Operation(
                **shared,
                method="GET",
                path="/admin/queues",
                summary="Shows how deep the queues are",
                handler=self._queues,
                answers={200: ("All queues", QueueList, "application/json")},
                problems=(503,),
            ),
            Operation(
                **shared,
                method="GET",
                path="/admin/dead-letters",
                summary="Lists dead letters, newest first",
                handler=self._dead_letters,
                parameters=[
                    Parameter(
                        name="after",
                        schema={"type": "integer", "minimum": 1, "maximum": _MAX_ID},
                        description="`next` of the page before",
                    ),
                    _LIMIT,
                ],
                answers={200: ("A page", DeadLetterPage, "application/json")},
                problems=(422, 503),
            ),
        ]

    async def _add(self, call: Call) -> Reply:
        return Reply(status=201, body=encode(await self._registration.add(call.body)))

    async def _list(self, call: Call) -> Reply:
        limit = _limit(call)
        after = call.number("after", default=0, lowest=0, highest=_MAX_ID)
        devices = await self._backends.devices.list(after=after, limit=limit)
        following = devices[-1].id if len(devices) == limit else None
        return Reply(body=encode(DevicePage(devices=devices, next=following)))

    async def _show(self, call: Call) -> Reply:
        return Reply(body=encode(await self._registration.get(_device_id(call))))

    async def _change(self, call: Call) -> Reply:
        return Reply(body=encode(await self._registration.change(_device_id(call), call.body)))

    async def _remove(self, call: Call) -> Reply:
        await self._registration.remove(_device_id(call))
        return Reply(status=204)

    async def _rotate(self, call: Call) -> Reply:
        return Reply(body=encode(await self._registration.rotate(_device_id(call))))

    async def _requests(self, call: Call) -> Reply:
        limit, after = _limit(call), call.query("after")
        before = None if after is None else read_cursor(after)
        pages = [
            await ledger.records.page(None, state=None, before=before, limit=limit, limit_bytes=MAX_LIST_BYTES)
            for ledger in self._backends.ledgers.values()
        ]
        newest, is_more = _merged(pages, limit)
        following = write_cursor(*_place(newest[-1])) if is_more else None
        return Reply(body=encode(OverviewPage(requests=[_overview(*entry) for entry in newest], next=following)))

    async def _queues(self, _call: Call) -> Reply:
        names = all_queues(self._backends.shards.shards, self._backends.model_names)
        depths = [QueueDepth(name=name, depth=await self._backends.broker.depth(name)) for name in names]
        return Reply(body=encode(QueueList(queues=depths)))

    async def _dead_letters(self, call: Call) -> Reply:
        limit = _limit(call)
        before = call.number("after", default=_MAX_ID, lowest=1, highest=_MAX_ID)
        pages = [
            await ledger.records.dead_letters(before=before, limit=limit) for ledger in self._backends.ledgers.values()
        ]
        letters = heapq.nlargest(limit, (letter for page in pages for letter in page), key=lambda letter: letter.id)
        following = letters[-1].id if len(letters) == limit else None
        return Reply(body=encode(DeadLetterPage(dead_letters=letters, next=following)))


def _place(entry: Entry) -> tuple[datetime, UUID]:
    """Where an entry stands in a list."""
    return entry[2].accepted_at, entry[2].id


def _merged(pages: Sequence[RequestPage], limit: int) -> tuple[list[Entry], bool]:
    """The newest of all shards, and whether there are more: none from beyond where a page that was cut ends."""
    entries = [entry for page in pages for entry in page.entries]
    ends = [_place(page.entries[-1]) for page in pages if page.is_more]
    known = [entry for entry in entries if not ends or _place(entry) >= max(ends)]
    newest = heapq.nlargest(limit, known, key=_place)
    return newest, bool(ends) or len(newest) < len(entries)


def _limit(call: Call) -> int:
    return call.number("limit", default=100, lowest=1, highest=500)


def _device_id(call: Call) -> int:
    text = call.path("id")
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not 1 <= int(text) <= _MAX_ID:
        raise NotFoundError(f"device {text[:64]!r}")
    return int(text)


def _overview(device_id: int, request: Request, status: RequestStatus) -> RequestOverview:
    return RequestOverview(
        **msgspec.structs.asdict(status),
        device_id=device_id,
        channel=request.channel,
        question=request.input.as_messages()[-1].content[:_QUESTION_CHARACTERS],
    )
