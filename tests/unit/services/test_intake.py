"""The one intake behind all doors."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import pytest

from fieldpost.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    DrainingError,
    IdempotencyConflictError,
    InvalidRequestError,
    QueueFullError,
    UnknownModelError,
)
from fieldpost.messages.identity import keyed_id
from fieldpost.messages.requests import Channel, ChatMessage, Input, Priority, Request, RequestBody
from fieldpost.ports.backends import Backends
from fieldpost.ports.broker import Broker
from fieldpost.ports.shared import SharedValues
from fieldpost.services.intake import Intake
from fieldpost.services.remembering import REMEMBER_SECONDS
from tests.support.clock import FakeClock
from tests.unit.services.conftest import DEVICE, OTHER

QUEUE = "requests.shard1"


def _body(prompt: str = "hello", **members: object) -> RequestBody:
    return RequestBody(input=Input(prompt=prompt), **members)  # type: ignore[arg-type]


async def _queued(backends: Backends) -> list[Request]:
    count = await backends.broker.depth(QUEUE)
    found: list[Request] = []
    async with backends.broker.consume([QUEUE], prefetch=1000) as consumer:
        while len(found) < count:
            deliveries = await consumer.receive(1000)
            found += [msgspec.msgpack.decode(delivery.body, type=Request) for delivery in deliveries]
    return found


async def test_an_accepted_request_is_in_its_shards_queue(intake: Intake, backends: Backends, clock: FakeClock) -> None:
    accepted = await intake.accept(DEVICE, _body(deadline_seconds=60), channel=Channel.HTTP)

    (request,) = await _queued(backends)
    assert (accepted.request_id, 1, "echo") == (request.id, request.device_id, request.model)
    assert request.deadline_at is not None
    assert 60 == (request.deadline_at - clock.now()).total_seconds()
    assert 7 == accepted.request_id.version


async def test_ids_without_a_key_grow_with_time(intake: Intake, clock: FakeClock) -> None:
    ids: list[UUID] = []
    for _ in range(5):
        ids.append((await intake.accept(DEVICE, _body(), channel=Channel.HTTP)).request_id)
        clock.advance(0.001)

    assert sorted(ids) == ids


async def test_the_same_key_is_the_same_request_on_every_door(intake: Intake, backends: Backends) -> None:
    http = await intake.accept(DEVICE, _body(), channel=Channel.HTTP, idempotency_key="k")
    socket = await intake.accept(DEVICE, _body(idempotency_key="k"), channel=Channel.WEBSOCKET)
    other = await intake.accept(OTHER, _body(), channel=Channel.HTTP, idempotency_key="k")

    assert keyed_id(1, "k") == http.request_id == socket.request_id
    assert (False, True, False) == (http.duplicate, socket.duplicate, other.duplicate)
    assert other.request_id != http.request_id
    assert 2 == await backends.broker.depth(QUEUE)


async def test_the_same_key_for_another_request_is_refused(intake: Intake, backends: Backends) -> None:
    await intake.accept(DEVICE, _body("one"), channel=Channel.HTTP, idempotency_key="k")

    with pytest.raises(IdempotencyConflictError):
        await intake.accept(DEVICE, _body("two"), channel=Channel.HTTP, idempotency_key="k")

    assert 1 == await backends.broker.depth(QUEUE)


@pytest.mark.parametrize(
    "other",
    [{"priority": Priority.HIGH}, {"cache": False}, {"deadline_seconds": 60.0}, {"kind": "chat"}, {"model": "echo2"}],
)
async def test_the_same_key_with_another_wish_is_refused(
    intake: Intake, backends: Backends, other: dict[str, Any]
) -> None:
    _with(intake, backends.broker, model_names=("echo", "echo2"))
    await intake.accept(DEVICE, _body(), channel=Channel.HTTP, idempotency_key="k")

    with pytest.raises(IdempotencyConflictError):
        await intake.accept(DEVICE, _body(**other), channel=Channel.HTTP, idempotency_key="k")


async def test_the_same_key_and_deadline_is_the_same_request_later_too(intake: Intake, clock: FakeClock) -> None:
    await intake.accept(DEVICE, _body(deadline_seconds=60.0), channel=Channel.HTTP, idempotency_key="k")
    clock.advance(5)

    again = await intake.accept(DEVICE, _body(deadline_seconds=60.0), channel=Channel.HTTP, idempotency_key="k")

    assert again.duplicate


async def test_who_waits_gets_no_answer_to_another_question_that_the_door_has_forgotten(
    intake: Intake, backends: Backends, clock: FakeClock
) -> None:
    first = await intake.accept(DEVICE, _body("one"), channel=Channel.HTTP, idempotency_key="k")
    await backends.ledgers["shard1"].records.record(await _queued(backends), dispatched=set(), now=clock.now())
    clock.advance(REMEMBER_SECONDS + 1)

    with pytest.raises(IdempotencyConflictError):
        await intake.accept(DEVICE, _body("two"), channel=Channel.HTTP, idempotency_key="k", is_awaited=True)
    same = await intake.accept(DEVICE, _body("one"), channel=Channel.HTTP, idempotency_key="k", is_awaited=True)

    assert first.request_id == same.request_id


async def test_the_same_words_are_the_same_request_when_the_default_model_has_changed(intake: Intake) -> None:
    await intake.accept(DEVICE, _body(), channel=Channel.HTTP, idempotency_key="k")
    intake._backends = msgspec.structs.replace(intake._backends, model_names=("echo", "newer"))
    intake.default_model = "newer"

    assert (await intake.accept(DEVICE, _body(), channel=Channel.HTTP, idempotency_key="k")).duplicate


async def test_of_two_requests_under_one_key_at_once_one_is_refused(intake: Intake) -> None:
    outcomes = await asyncio.gather(
        *(intake.accept(DEVICE, _body(text), channel=Channel.HTTP, idempotency_key="k") for text in ("one", "two")),
        return_exceptions=True,
    )

    assert 1 == sum(isinstance(outcome, IdempotencyConflictError) for outcome in outcomes)


@pytest.mark.parametrize(
    "wrong",
    [
        Input(),
        Input(prompt="a", messages=(ChatMessage(role="user", content="b"),)),
    ],
)
async def test_input_is_a_prompt_or_messages(intake: Intake, backends: Backends, wrong: Input) -> None:
    with pytest.raises(InvalidRequestError):
        await intake.accept(DEVICE, RequestBody(input=wrong), channel=Channel.HTTP)

    assert 0 == await backends.broker.depth(QUEUE)


async def test_two_different_keys_are_refused(intake: Intake) -> None:
    with pytest.raises(InvalidRequestError):
        await intake.accept(DEVICE, _body(idempotency_key="a"), channel=Channel.HTTP, idempotency_key="b")


async def test_an_unknown_model_is_refused(intake: Intake) -> None:
    with pytest.raises(UnknownModelError):
        await intake.accept(DEVICE, _body(model="nonesuch"), channel=Channel.HTTP)


async def test_a_draining_intake_accepts_nothing(intake: Intake, backends: Backends) -> None:
    intake.drain()

    with pytest.raises(DrainingError):
        await intake.accept(DEVICE, _body(), channel=Channel.HTTP)

    assert 0 == await backends.broker.depth(QUEUE)


async def test_a_full_queue_is_told_and_nothing_is_remembered(intake: Intake, backends: Backends) -> None:
    await backends.broker.declare(QUEUE, max_messages=1)
    await intake.accept(DEVICE, _body(), channel=Channel.HTTP)

    with pytest.raises(QueueFullError):
        await intake.accept(DEVICE, _body(), channel=Channel.HTTP, idempotency_key="k")

    assert await intake.recall(keyed_id(1, "k"), 1) is None


async def test_what_is_remembered_is_the_devices_own(intake: Intake) -> None:
    accepted = await intake.accept(DEVICE, _body(), channel=Channel.HTTP)

    assert await intake.recall(accepted.request_id, 1) is not None
    assert await intake.recall(accepted.request_id, 2) is None


class _SilentBroker:
    """The broker, but for publishing: it never confirms."""

    def __init__(self, broker: Broker, error: Exception) -> None:
        self._broker = broker
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def publish(self, queue: str, bodies: Sequence[bytes]) -> None:
        raise self._error


def _with(intake: Intake, broker: Any, **more: Any) -> None:
    intake._backends = msgspec.structs.replace(intake._backends, broker=broker, **more)


async def test_an_unknown_outcome_names_the_request_and_keeps_its_key(intake: Intake, backends: Backends) -> None:
    _with(intake, _SilentBroker(backends.broker, BackendTimeoutError("not confirmed")))
    with pytest.raises(BackendTimeoutError) as unknown:
        await intake.accept(DEVICE, _body("first"), channel=Channel.HTTP, idempotency_key="k")
    _with(intake, backends.broker)

    # What may be on disk stands for its key: another question is refused, the same one is sent again.
    with pytest.raises(IdempotencyConflictError):
        await intake.accept(DEVICE, _body("second"), channel=Channel.HTTP, idempotency_key="k")
    again = await intake.accept(DEVICE, _body("first"), channel=Channel.HTTP, idempotency_key="k")

    assert str(keyed_id(1, "k")) in unknown.value.detail
    assert not again.duplicate
    assert ["first"] == [request.input.prompt for request in await _queued(backends)]


async def test_what_was_refused_for_certain_leaves_its_key_free(intake: Intake, backends: Backends) -> None:
    _with(intake, _SilentBroker(backends.broker, QueueFullError()))
    with pytest.raises(QueueFullError):
        await intake.accept(DEVICE, _body("first"), channel=Channel.HTTP, idempotency_key="k")
    _with(intake, backends.broker)

    await intake.accept(DEVICE, _body("second"), channel=Channel.HTTP, idempotency_key="k")

    assert ["second"] == [request.input.prompt for request in await _queued(backends)]


class _Values:
    """Shared values that do what a test says when they are set."""

    def __init__(self, values: SharedValues, on_put: Callable[[], Awaitable[None]]) -> None:
        self._values = values
        self._on_put = on_put

    async def get(self, key: str) -> bytes | None:
        return await self._values.get(key)

    async def put(self, values: Sequence[tuple[str, bytes]], *, ttl_seconds: float) -> None:
        await self._on_put()


def _with_values(intake: Intake, backends: Backends, on_put: Callable[[], Awaitable[None]]) -> None:
    values = _Values(backends.shared.values, on_put)
    shared = msgspec.structs.replace(backends.shared, values=values)  # type: ignore[type-var]
    intake._backends = msgspec.structs.replace(backends, shared=shared)


async def test_what_the_broker_confirmed_is_accepted_although_shared_state_cannot_keep_it(
    intake: Intake, backends: Backends
) -> None:
    async def fail() -> None:
        raise BackendUnavailableError

    _with_values(intake, backends, fail)
    accepted = await intake.accept(DEVICE, _body(), channel=Channel.HTTP, idempotency_key="k")

    assert [accepted.request_id] == [request.id for request in await _queued(backends)]


async def test_who_leaves_while_shared_state_is_told_leaves_the_key_to_the_request(
    intake: Intake, backends: Backends
) -> None:
    is_told = asyncio.Event()

    async def hang() -> None:
        is_told.set()
        await asyncio.Event().wait()

    _with_values(intake, backends, hang)
    accepting = asyncio.create_task(intake.accept(DEVICE, _body("first"), channel=Channel.HTTP, idempotency_key="k"))
    await asyncio.wait_for(is_told.wait(), 30)
    accepting.cancel()
    await asyncio.wait([accepting])
    intake._backends = backends

    with pytest.raises(IdempotencyConflictError):
        await intake.accept(DEVICE, _body("second"), channel=Channel.HTTP, idempotency_key="k")
    assert ["first"] == [request.input.prompt for request in await _queued(backends)]
