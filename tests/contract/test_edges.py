"""The edges of what broker, ledger, directory and shared state promise: nothing, everything at once, half-way, too much."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from fieldpost.backends import memory
from fieldpost.backends.sqlite import database as sqlite_database
from fieldpost.backends.sqlite.opening import Embedded, open_database
from fieldpost.errors import BackendUnavailableError, ConflictError, OverloadedError, QueueFullError
from fieldpost.messages.devices import DeviceKind
from fieldpost.messages.events import CredentialsChanged, Event
from fieldpost.messages.requests import Priority
from fieldpost.ports.broker import Broker, Delivery
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.ports.ledger import Ledger
from fieldpost.ports.ledger_values import Finish, RecordOutcome
from tests.support.clock import FakeClock
from tests.support.messages import a_request, a_response, at
from tests.support.waiting import eventually

HASH = bytes(32)


@pytest.fixture
async def broker(embedded: Embedded) -> Broker:
    await embedded.broker.declare("q", max_messages=10)
    return embedded.broker


@pytest.fixture
def ledger(embedded: Embedded) -> Ledger:
    return embedded.ledger


@pytest.fixture
def devices(embedded: Embedded) -> DeviceDirectory:
    return embedded.devices


async def _all(broker: Broker) -> list[bytes]:
    found: list[Delivery] = []
    async with broker.consume(["q"], prefetch=100) as consumer, asyncio.timeout(30):
        while len(found) < await broker.depth("q"):
            found += await consumer.receive(100)
    return [delivery.body for delivery in found]


async def test_of_many_publishers_at_once_just_as_many_get_in_as_there_is_room(broker: Broker) -> None:
    publishing = [broker.publish("q", [str(number).encode()]) for number in range(50)]

    outcomes = await asyncio.gather(*publishing, return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, QueueFullError)]
    assert (10, 40) == (outcomes.count(None), len(refused))
    accepted = {str(number).encode() for number, outcome in enumerate(outcomes) if outcome is None}
    assert accepted == set(await _all(broker))


async def test_a_batch_that_does_not_fit_is_refused_as_a_whole(broker: Broker) -> None:
    await broker.publish("q", [b"1"] * 8)

    with pytest.raises(QueueFullError):
        await broker.publish("q", [b"2"] * 3)

    await broker.publish("q", [b"3"] * 2)
    assert [b"1"] * 8 + [b"3"] * 2 == await _all(broker)


async def test_a_bound_can_be_changed_while_there_are_messages(broker: Broker) -> None:
    await broker.publish("q", [b"1"] * 5)

    await broker.declare("q", max_messages=5)
    with pytest.raises(QueueFullError):
        await broker.publish("q", [b"2"])
    await broker.declare("q", max_messages=6)
    await broker.publish("q", [b"3"])

    assert 6 == await broker.depth("q")


async def test_what_was_refused_for_want_of_room_to_wait_never_comes(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crowded:
        crowded.setattr(sqlite_database, "MAX_WAITING", 0)
        with pytest.raises(OverloadedError):
            await broker.publish("q", [b"refused"])
        assert 0 == await broker.depth("q")

    await broker.publish("q", [b"accepted"])

    assert [b"accepted"] == await _all(broker)


async def test_an_acknowledgement_that_finds_no_room_to_wait_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database(tmp_path / "x.db") as engines:
        await engines.broker.declare("q", max_messages=10)
        await engines.broker.publish("q", [b"1"])
        async with engines.broker.consume(["q"], prefetch=10) as consumer:
            deliveries = await consumer.receive(10)
            with monkeypatch.context() as crowded:
                crowded.setattr(sqlite_database, "MAX_WAITING", 0)
                await consumer.ack(deliveries)
            assert 0 == await engines.broker.depth("q")
        # Its row goes with the next group.
        await engines.broker.publish("q", [b"2"])

    async with open_database(tmp_path / "x.db") as engines:
        await engines.broker.declare("q", max_messages=10)
        assert [b"2"] == await _all(engines.broker)


async def test_a_delivery_is_acknowledged_or_put_back_once(broker: Broker) -> None:
    await broker.publish("q", [b"1", b"2"])
    async with broker.consume(["q"], prefetch=10) as consumer:
        deliveries = list(await consumer.receive(10))
        await consumer.ack(deliveries[:1])
        await consumer.ack(deliveries[:1])
        await consumer.requeue(deliveries[:1])
        await consumer.requeue(deliveries[1:])
        await consumer.ack(deliveries[1:])

        assert 1 == await broker.depth("q")
        assert [b"2"] == [delivery.body for delivery in await consumer.receive(10)]


async def test_nothing_can_be_done_with_engines_that_are_closed(tmp_path: Path) -> None:
    async with open_database(tmp_path / "x.db") as engines:
        await engines.broker.declare("q", max_messages=10)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: engines.broker.publish("q", [b"1"]),
        lambda: engines.ledger.records.record([a_request()], dispatched=(), now=at(0)),
        lambda: engines.ledger.records.status(uuid4(), 1),
        lambda: engines.devices.get(1),
    ]

    for call in calls:
        with pytest.raises(BackendUnavailableError):
            await call()


async def test_what_waits_for_the_disk_when_it_is_closed_is_kept(tmp_path: Path) -> None:
    async with open_database(tmp_path / "x.db") as engines:
        await engines.broker.declare("q", max_messages=1000)
        publishing = [asyncio.create_task(engines.broker.publish("q", [b"1"])) for _ in range(100)]
        await asyncio.sleep(0)

    assert [None] * 100 == await asyncio.gather(*publishing)
    async with open_database(tmp_path / "x.db") as engines:
        await engines.broker.declare("q", max_messages=1000)
        assert 100 == await engines.broker.depth("q")


async def test_nothing_asked_of_the_ledger_is_nothing_done(ledger: Ledger) -> None:
    request = a_request()
    await ledger.records.record([request], dispatched=(), now=at(0))

    assert {} == await ledger.records.standings([])
    assert [] == list(await ledger.claims.claim([], holder="w", now=at(1), until=at(2)))
    assert [] == list(await ledger.claims.renew({}, now=at(1), until=at(2)))
    await ledger.claims.release({}, now=at(1))
    assert [] == list(await ledger.claims.finish([], [], now=at(1)))
    assert [] == list(await ledger.deliveries.acknowledge([], 1, now=at(1)))
    assert [] == list(await ledger.dispatch.take("nobody's", Priority.HIGH, after_device=0, limit=10, now=at(1)))

    assert {request.id} == (await ledger.records.standings([request.id])).keys()


async def test_what_the_ledger_does_not_have_is_left_out(ledger: Ledger) -> None:
    stranger = a_request()

    assert {} == await ledger.records.standings([stranger.id])
    assert [] == list(await ledger.claims.claim([stranger.id], holder="w", now=at(1), until=at(2)))
    assert [] == list(await ledger.claims.renew({stranger.id: 1}, now=at(1), until=at(2)))
    await ledger.claims.release({stranger.id: 1}, now=at(1))
    finish = Finish(request_id=stranger.id, attempt=1, response=a_response(stranger))
    assert [] == list(await ledger.claims.finish([finish], [], now=at(1)))
    assert [] == list(await ledger.deliveries.acknowledge([stranger.id], stranger.device_id, now=at(1)))


async def test_of_many_workers_at_once_one_claims_a_request(ledger: Ledger) -> None:
    requests = [a_request() for _ in range(20)]
    await ledger.records.record(requests, dispatched=(), now=at(0))
    ids = [request.id for request in requests]

    claims = await asyncio.gather(
        *(ledger.claims.claim(ids, holder=f"w{number}", now=at(1), until=at(20)) for number in range(10))
    )

    claimed = [claim.request.id for found in claims for claim in found]
    assert sorted(ids) == sorted(claimed)
    assert {1} == {claim.attempt for found in claims for claim in found}


async def test_of_many_results_of_one_attempt_one_is_recorded(ledger: Ledger) -> None:
    request = a_request()
    await ledger.records.record([request], dispatched=(), now=at(0))
    (claim,) = await ledger.claims.claim([request.id], holder="w", now=at(1), until=at(20))

    finished = await asyncio.gather(
        *(
            ledger.claims.finish(
                [
                    Finish(
                        request_id=request.id,
                        attempt=claim.attempt,
                        response=a_response(request, text=f"answer {number}"),
                    )
                ],
                [],
                now=at(2),
            )
            for number in range(10)
        )
    )

    (only,) = [entry for entries in finished for entry in entries]
    status = await ledger.records.status(request.id, request.device_id)
    assert status is not None
    assert status.response is not None
    assert only.body == bytes(status.response)


async def test_a_call_to_the_ledger_that_is_given_up_happens_whole_or_not_at_all(ledger: Ledger) -> None:
    requests = [a_request() for _ in range(50)]
    recording = asyncio.create_task(ledger.records.record(requests, dispatched=(), now=at(0)))
    await asyncio.sleep(0)
    recording.cancel()

    outcomes = await ledger.records.record(requests, dispatched=(), now=at(1))

    assert len({outcomes[request.id] for request in requests}) == 1
    assert set(outcomes.values()) <= {RecordOutcome.NEW, RecordOutcome.DUPLICATE}


async def test_of_many_who_want_the_same_id_one_gets_it(devices: DeviceDirectory) -> None:
    adding = [
        devices.add(kind=DeviceKind.TRUCK, name=f"{number}", key_hash=HASH, now=at(0), device_id=17)
        for number in range(10)
    ]

    outcomes = await asyncio.gather(*adding, return_exceptions=True)

    assert 9 == sum(isinstance(outcome, ConflictError) for outcome in outcomes)
    assert [17] == [device.id for device in await devices.list(after=0, limit=10)]


async def test_a_device_is_removed_once(devices: DeviceDirectory) -> None:
    device = await devices.add(kind=DeviceKind.TRUCK, name="x", key_hash=HASH, now=at(0))

    outcomes = await asyncio.gather(*(devices.remove(device.id, now=at(1)) for _ in range(5)))

    assert [False] * 4 + [True] == sorted(outcomes)
    assert await devices.change(device.id, disabled=False) is None


async def test_shared_values_are_bounded_in_number(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_VALUES", 100)
    values = memory.memory_shared(clock).values

    for number in range(1000):
        await values.put([(f"k{number}", b"")], ttl_seconds=60)

    kept = [number for number in range(1000) if await values.get(f"k{number}") is not None]
    assert list(range(900, 1000)) == kept


async def test_a_subscriber_that_leaves_while_others_listen_disturbs_nobody(clock: FakeClock) -> None:
    bus = memory.memory_shared(clock).bus
    heard: list[int] = []

    async def listen() -> None:
        async with bus.subscribe(["a"]) as subscription:
            listening.release()
            while True:
                events = await subscription.receive()
                heard.extend(event.device_id for event in events if isinstance(event, CredentialsChanged))

    listening = asyncio.Semaphore(0)
    one, other = (asyncio.create_task(listen()) for _ in range(2))
    for _ in range(2):
        await listening.acquire()
    one.cancel()
    await asyncio.wait([one])
    events: list[Event] = [CredentialsChanged(device_id=number) for number in (1, 2)]
    await bus.publish("a", events)

    await eventually(lambda: heard == [1, 2])
    other.cancel()
