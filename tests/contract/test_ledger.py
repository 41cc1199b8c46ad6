"""What every ledger promises; see fieldpost.ports.ledger."""

import asyncio
from collections.abc import Collection
from datetime import datetime
from uuid import UUID, uuid4

import msgspec
import pytest

from fieldpost.messages.identity import body_hash
from fieldpost.messages.requests import Channel, Priority, Request, RequestState
from fieldpost.messages.responses import Job, Response
from fieldpost.ports.ledger import Ledger
from fieldpost.ports.ledger_values import (
    AnswerPage,
    Claim,
    Finish,
    Finished,
    RecordOutcome,
    RequestPage,
    Retry,
    Standing,
    WaitingFile,
)
from fieldpost.services.endings import EXPIRED, too_many_deaths
from tests.support.messages import a_request, a_response, at


async def _record(ledger: Ledger, *requests: Request, dispatched: bool = True) -> None:
    ids = {request.id for request in requests} if dispatched else set()
    await ledger.records.record(requests, dispatched=ids, now=at(0))


async def _claim(ledger: Ledger, *requests: Request, seconds: float = 1, lasts: float = 15) -> list[Claim]:
    ids = [request.id for request in requests]
    return list(await ledger.claims.claim(ids, holder="w1", now=at(seconds), until=at(seconds + lasts)))


async def _finish(ledger: Ledger, request: Request, attempt: int, *, seconds: float = 10, text: str = "Nine.") -> int:
    response = a_response(request, attempts=attempt, text=text, seconds=seconds)
    finish = Finish(request_id=request.id, attempt=attempt, response=response)
    return len(await ledger.claims.finish([finish], [], now=at(seconds)))


async def _answered(ledger: Ledger, *requests: Request, seconds: float = 10) -> None:
    await _record(ledger, *requests)
    for claim in await _claim(ledger, *requests):
        await _finish(ledger, claim.request, claim.attempt, seconds=seconds)


async def _list(
    ledger: Ledger,
    device_id: int | None = 1,
    *,
    state: RequestState | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 10,
    limit_bytes: int = 2**20,
) -> RequestPage:
    return await ledger.records.page(device_id, state=state, before=before, limit=limit, limit_bytes=limit_bytes)


async def _page(
    ledger: Ledger,
    device_id: int = 1,
    *,
    after: tuple[datetime, UUID] | None = None,
    leaving_out: Collection[UUID] = (),
    limit: int = 10,
    limit_bytes: int = 2**20,
) -> AnswerPage:
    return await ledger.deliveries.undelivered(
        device_id, after=after, leaving_out=leaving_out, limit=limit, limit_bytes=limit_bytes
    )


def _ids(page: AnswerPage) -> list[UUID]:
    return [answer.request_id for answer in page.answers]


async def _undelivered(ledger: Ledger, device_id: int) -> list[UUID]:
    return _ids(await _page(ledger, device_id))


async def _state(ledger: Ledger, request: Request) -> RequestState:
    status = await ledger.records.status(request.id, request.device_id)
    assert status is not None
    return status.status


async def _reap(ledger: Ledger, *, seconds: float, max_deaths: int = 3) -> tuple[int, list[Response]]:
    reaped = await ledger.dispatch.reap(
        max_deaths=max_deaths,
        too_many_deaths=too_many_deaths(max_deaths),
        expired=EXPIRED,
        now=at(seconds),
        limit=100,
    )
    return len(reaped.requeued), [msgspec.json.decode(entry.body, type=Response) for entry in reaped.finished]


# Records


async def test_a_recorded_request_is_queued(ledger: Ledger) -> None:
    request = a_request(deadline_at=at(60))

    outcomes = await ledger.records.record([request], dispatched=(), now=at(0))

    status = await ledger.records.status(request.id, request.device_id)
    assert {request.id: RecordOutcome.NEW} == outcomes
    assert status is not None
    assert (RequestState.QUEUED, at(60), 0, None) == (
        status.status,
        status.deadline_at,
        status.attempts,
        status.response,
    )


async def test_recording_nothing_is_nothing(ledger: Ledger) -> None:
    assert {} == await ledger.records.record([], dispatched=(), now=at(0))


async def test_the_same_request_again_is_a_duplicate(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)

    outcomes = await ledger.records.record([request, request], dispatched=(), now=at(5))

    assert {request.id: RecordOutcome.DUPLICATE} == outcomes


async def test_the_same_id_twice_in_one_batch_is_recorded_once(ledger: Ledger) -> None:
    request = a_request()

    outcomes = await ledger.records.record([request, request], dispatched=(), now=at(0))

    assert {request.id: RecordOutcome.NEW} == outcomes
    assert 1 == len((await _list(ledger)).entries)


async def test_the_same_id_with_another_body_becomes_a_dead_letter_and_the_first_stands(ledger: Ledger) -> None:
    first = a_request(prompt="first")
    await _record(ledger, first)
    second = a_request(id=first.id, prompt="second")

    outcomes = await ledger.records.record([second], dispatched=(), now=at(1))

    (letter,) = await ledger.records.dead_letters(before=None, limit=10)
    ((_, kept, _),) = (await _list(ledger)).entries
    assert {first.id: RecordOutcome.CONFLICT} == outcomes
    assert (first.id, 1) == (letter.request_id, letter.device_id)
    assert "second" in letter.body
    assert "first" == kept.input.prompt


async def test_concurrent_recordings_of_one_request_leave_one(ledger: Ledger) -> None:
    request = a_request()

    outcomes = await asyncio.gather(*(ledger.records.record([request], dispatched=(), now=at(0)) for _ in range(20)))

    assert 1 == sum(outcome[request.id] is RecordOutcome.NEW for outcome in outcomes)


async def test_a_foreign_request_does_not_exist(ledger: Ledger) -> None:
    request = a_request(device_id=1)
    await _answered(ledger, request)

    assert await ledger.records.status(request.id, 2) is None
    assert await ledger.records.cancel(request.id, 2, expected=False, now=at(1)) is None
    assert not await ledger.deliveries.acknowledge([request.id], 2, now=at(20))
    assert [] == await _undelivered(ledger, 2)
    assert not await ledger.deliveries.unacknowledged([request.id], 2)
    assert not await ledger.deliveries.completed([2], after=(at(0), UUID(int=0)), limit=10)


async def test_an_unreadable_message_is_kept_with_its_reason(ledger: Ledger) -> None:
    await ledger.records.bury(reason="not a request", body=b"\xff\x00garbage", now=at(3))

    (letter,) = await ledger.records.dead_letters(before=None, limit=10)
    assert ("not a request", at(3), None) == (letter.reason, letter.created_at, letter.request_id)
    assert "garbage" in letter.body


async def test_pages_go_back_in_time_without_gap_or_repetition(ledger: Ledger) -> None:
    requests = [a_request(accepted_at=at(number // 2)) for number in range(7)]
    await _record(ledger, *requests, a_request(device_id=2))

    seen: list[UUID] = []
    before = None
    is_more = True
    while is_more:
        page = await _list(ledger, before=before, limit=3)
        seen += [status.id for _, _, status in page.entries]
        before = (page.entries[-1][2].accepted_at, page.entries[-1][2].id)
        is_more = page.is_more

    newest_first = sorted(requests, key=lambda request: (request.accepted_at, request.id.bytes), reverse=True)
    assert [request.id for request in newest_first] == seen


async def test_pages_can_be_of_one_state_and_of_all_devices(ledger: Ledger) -> None:
    waiting, answered = a_request(), a_request(device_id=2)
    await _record(ledger, waiting)
    await _answered(ledger, answered)

    page = await _list(ledger, None, state=RequestState.SUCCEEDED)

    assert [(2, answered.id)] == [(device_id, status.id) for device_id, _, status in page.entries]


async def test_a_page_of_requests_is_bounded_in_bytes_and_never_empty_while_there_are_some(ledger: Ledger) -> None:
    requests = [a_request(prompt="x" * 1000, accepted_at=at(number)) for number in range(3)]
    await _record(ledger, *requests)

    one = await _list(ledger, limit_bytes=1)
    two = await _list(ledger, limit_bytes=2900)
    nobody = await _list(ledger, 7)

    assert ([requests[2].id], True) == ([status.id for _, _, status in one.entries], one.is_more)
    assert (2, True) == (len(two.entries), two.is_more)
    assert ([], False) == (list(nobody.entries), nobody.is_more)


async def test_standings_tell_of_what_is_there_which_request_it_is_and_where_its_answer_goes(ledger: Ledger) -> None:
    posted, dropped = a_request(accepted_at=at(3)), a_request(channel=Channel.FOLDER, file_name="a.txt")
    await _record(ledger, posted, dropped)
    (claim,) = await _claim(ledger, dropped)
    await _finish(ledger, dropped, claim.attempt)
    await ledger.deliveries.acknowledge([dropped.id], 1, now=at(11))

    found = await ledger.records.standings([posted.id, dropped.id, uuid4()])

    assert {
        posted.id: Standing(accepted_at=at(3), body_hash=posted.body_hash, file_name=None, is_acknowledged=False),
        dropped.id: Standing(
            accepted_at=dropped.accepted_at, body_hash=dropped.body_hash, file_name="a.txt", is_acknowledged=True
        ),
    } == found
    assert {} == await ledger.records.standings([])


# Cancelling


async def test_a_cancelled_request_is_never_claimed_and_has_nothing_to_deliver(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)

    status = await ledger.records.cancel(request.id, 1, expected=False, now=at(1))

    assert status is not None
    assert RequestState.CANCELLED is status.status
    assert [] == await _claim(ledger, request)
    assert [] == await _undelivered(ledger, 1)


async def test_cancelling_while_it_is_worked_on_refuses_the_result(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)
    await _claim(ledger, request)

    await ledger.records.cancel(request.id, 1, expected=False, now=at(2))

    assert not await ledger.claims.renew({request.id: 1}, now=at(3), until=at(9))
    assert 0 == await _finish(ledger, request, 1)
    assert RequestState.CANCELLED is await _state(ledger, request)


async def test_an_answered_request_stays_answered_when_it_is_cancelled(ledger: Ledger) -> None:
    request = a_request()
    await _answered(ledger, request)

    status = await ledger.records.cancel(request.id, 1, expected=False, now=at(20))

    assert status is not None
    assert RequestState.SUCCEEDED is status.status


async def test_a_cancellation_that_comes_first_meets_its_request(ledger: Ledger) -> None:
    request = a_request()

    assert await ledger.records.cancel(request.id, 1, expected=True, now=at(0)) is None
    outcomes = await ledger.records.record([request], dispatched=(), now=at(1))

    assert {request.id: RecordOutcome.CANCELLED} == outcomes
    assert RequestState.CANCELLED is await _state(ledger, request)


async def test_a_cancellation_by_another_device_does_not_meet_the_request(ledger: Ledger) -> None:
    request = a_request(device_id=1)
    await ledger.records.cancel(request.id, 2, expected=True, now=at(0))

    assert {request.id: RecordOutcome.NEW} == await ledger.records.record([request], dispatched=(), now=at(1))


# Claims


async def test_a_claim_is_exclusive_and_counts_attempts(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)

    claims = await asyncio.gather(*(_claim(ledger, request) for _ in range(10)))

    (claim,) = [claim for found in claims for claim in found]
    assert (request, 1, 0) == (claim.request, claim.attempt, claim.failures)
    assert RequestState.PROCESSING is await _state(ledger, request)


async def test_several_are_claimed_at_once_and_the_rest_is_left_out(ledger: Ledger) -> None:
    free, taken, late = a_request(), a_request(), a_request(deadline_at=at(1))
    await _record(ledger, free, taken, late)
    await _claim(ledger, taken, seconds=0)

    claims = await _claim(ledger, free, taken, late, a_request(), seconds=2)

    assert [free.id] == [claim.request.id for claim in claims]


async def test_only_the_current_attempt_may_finish(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)
    await _claim(ledger, request, lasts=5)
    await _reap(ledger, seconds=10)
    (second,) = await _claim(ledger, request, seconds=11)

    stale = await _finish(ledger, request, 1, text="from the one who woke up late")
    current = await _finish(ledger, request, second.attempt, text="right", seconds=12)

    status = await ledger.records.status(request.id, 1)
    assert (0, 1, 2) == (stale, current, second.attempt)
    assert status is not None
    assert status.response is not None
    assert b"right" in bytes(msgspec.Raw(status.response))


async def test_a_final_state_never_changes(ledger: Ledger) -> None:
    request = a_request()
    await _answered(ledger, request)

    assert 0 == await _finish(ledger, request, 1, text="another")
    assert (0, []) == await _reap(ledger, seconds=10_000)
    assert [] == await _claim(ledger, request, seconds=10_001)


async def test_a_renewed_claim_does_not_run_out(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)
    await _claim(ledger, request, lasts=5)

    held = await ledger.claims.renew({request.id: 1, uuid4(): 1}, now=at(4), until=at(30))

    assert [request.id] == list(held)
    assert (0, []) == await _reap(ledger, seconds=20)


async def test_an_answer_counts_whatever_stale_results_share_its_batch(ledger: Ledger) -> None:
    for is_retry in (True, False):
        request = a_request()
        await _record(ledger, request)
        await _claim(ledger, request, lasts=5)
        await _reap(ledger, seconds=10)
        await _claim(ledger, request, seconds=11)
        good = Finish(request_id=request.id, attempt=2, response=a_response(request, attempts=2))
        stale_retry = Retry(request_id=request.id, attempt=1, not_before=at(60))
        stale = Finish(request_id=request.id, attempt=1, response=a_response(request, text="too late"))
        finishes = [good] if is_retry else [good, stale]

        finished = await ledger.claims.finish(finishes, [stale_retry] if is_retry else [], now=at(12))

        status = await ledger.records.status(request.id, 1)
        assert [request.id] == [entry.request_id for entry in finished]
        assert status is not None
        assert (RequestState.SUCCEEDED, 2) == (status.status, status.attempts)


async def test_an_answer_whose_claim_ran_out_counts_until_somebody_claims_anew(ledger: Ledger) -> None:
    answered, failed = a_request(), a_request()
    await _record(ledger, answered, failed)
    await _claim(ledger, answered, failed, lasts=5)
    await _reap(ledger, seconds=10)
    retry = Retry(request_id=failed.id, attempt=1, not_before=at(1000))

    recorded = await _finish(ledger, answered, 1, seconds=11)
    await ledger.claims.finish([], [retry], now=at(11))

    assert 1 == recorded
    assert RequestState.SUCCEEDED is await _state(ledger, answered)
    # A failure changes nothing: the request is in line, and at once.
    (claim,) = await _claim(ledger, answered, failed, seconds=12)
    assert (failed.id, 2, 0) == (claim.request.id, claim.attempt, claim.failures)


async def test_a_request_from_a_clock_that_runs_ahead_can_be_claimed_at_once(ledger: Ledger) -> None:
    request = a_request(accepted_at=at(3600))
    await _record(ledger, request)

    assert 1 == len(await _claim(ledger, request, seconds=1))


async def test_what_was_dispatched_can_be_claimed_by_a_clock_that_is_behind(ledger: Ledger) -> None:
    dispatched, waiting = a_request(), a_request()
    await _record(ledger, dispatched)
    await _record(ledger, waiting, dispatched=False)

    (claim,) = await _claim(ledger, dispatched, waiting, seconds=-1)

    assert dispatched.id == claim.request.id


async def test_a_stale_attempt_is_not_renewed(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)
    await _claim(ledger, request, lasts=5)
    await _reap(ledger, seconds=10)
    await _claim(ledger, request, seconds=11)

    assert not await ledger.claims.renew({request.id: 1}, now=at(12), until=at(30))


async def test_a_released_claim_is_free_at_once_and_not_held_against_it(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)
    for seconds in range(1, 6):
        await _claim(ledger, request, seconds=seconds)
        await ledger.claims.release({request.id: seconds}, now=at(seconds))

    (claim,) = await _claim(ledger, request, seconds=7)

    assert (6, 0) == (claim.attempt, claim.failures)


async def test_a_retry_waits_until_it_is_due_and_counts_as_failure(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)
    await _claim(ledger, request)

    finished = await ledger.claims.finish([], [Retry(request_id=request.id, attempt=1, not_before=at(20))], now=at(2))

    assert [] == list(finished)
    assert [] == await _claim(ledger, request, seconds=19)
    assert [] == list(await _take(ledger, seconds=19))
    assert [request.id] == [job.request_id for job in await _take(ledger, seconds=20)]
    (claim,) = await _claim(ledger, request, seconds=20)
    assert (2, 1) == (claim.attempt, claim.failures)


async def test_a_failure_with_a_reason_goes_to_the_dead_letters_too(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)
    await _claim(ledger, request)
    response = msgspec.structs.replace(a_response(request), status=RequestState.FAILED, output=None, error=EXPIRED)

    await ledger.claims.finish(
        [Finish(request_id=request.id, attempt=1, response=response, dead_letter="refused")], [], now=at(2)
    )

    (letter,) = await ledger.records.dead_letters(before=None, limit=10)
    assert ("refused", request.id) == (letter.reason, letter.request_id)
    assert RequestState.FAILED is await _state(ledger, request)


# Dispatch


async def _take(ledger: Ledger, *, limit: int = 100, after: int = 0, seconds: float = 1) -> list[Job]:
    return list(
        await ledger.dispatch.take("library", Priority.NORMAL, after_device=after, limit=limit, now=at(seconds))
    )


async def _is_waiting(ledger: Ledger, *, seconds: float = 1) -> bool:
    return await ledger.dispatch.is_waiting("library", Priority.NORMAL, now=at(seconds))


async def test_only_what_is_not_dispatched_waits(ledger: Ledger) -> None:
    sent, waiting = a_request(), a_request()
    await _record(ledger, sent)
    await _record(ledger, waiting, dispatched=False)

    assert await _is_waiting(ledger)
    assert [waiting.id] == [job.request_id for job in await _take(ledger)]
    assert not await _is_waiting(ledger)
    assert [] == await _take(ledger)


async def test_what_is_past_the_limit_waits_for_the_next_time(ledger: Ledger) -> None:
    requests = [a_request(device_id=device_id) for device_id in (1, 1, 1, 2)]
    await _record(ledger, *requests, dispatched=False)

    taken = [{job.request_id for job in await _take(ledger, limit=limit)} for limit in (3, 3)]

    assert (3, 1) == (len(taken[0]), len(taken[1]))
    assert {request.id for request in requests} == taken[0] | taken[1]
    assert 4 == await ledger.dispatch.dispatched("library", Priority.NORMAL, limit=100)


async def test_two_who_take_at_once_take_nothing_twice(ledger: Ledger) -> None:
    requests = [a_request(device_id=device_id) for device_id in (1, 2, 3) for _ in range(20)]
    await _record(ledger, *requests, dispatched=False)

    taken = await asyncio.gather(*(_take(ledger, limit=20) for _ in range(3)))

    ids = [job.request_id for jobs in taken for job in jobs]
    assert len(ids) == len(set(ids))
    assert len(ids) == await ledger.dispatch.dispatched("library", Priority.NORMAL, limit=100)


async def test_lines_are_apart_by_model_and_priority(ledger: Ledger) -> None:
    await _record(ledger, a_request(model="other"), a_request(priority=Priority.HIGH), dispatched=False)

    assert not await _is_waiting(ledger)
    assert [] == await _take(ledger)


async def test_a_flood_from_one_device_leaves_room_for_the_others(ledger: Ledger) -> None:
    flood = [a_request(device_id=5, accepted_at=at(-number)) for number in range(50)]
    others = [a_request(device_id=device_id) for device_id in (2, 9)]
    await _record(ledger, *flood, *others, dispatched=False)

    jobs = await _take(ledger, limit=6)

    assert {2, 5, 9} == {job.device_id for job in jobs[:3]}
    # A device's oldest go first.
    assert [flood[-1].id, flood[-2].id] == [job.request_id for job in jobs if job.device_id == 5][:2]


async def test_devices_take_turns_beginning_after_the_last_one(ledger: Ledger) -> None:
    await _record(ledger, *(a_request(device_id=device_id) for device_id in range(1, 6)), dispatched=False)

    jobs = await _take(ledger, after=3, limit=4)

    assert [4, 5, 1, 2] == [job.device_id for job in jobs]


async def _undispatch(ledger: Ledger, *, in_queue: int, before: float, surely: float = -1, limit: int = 100) -> int:
    return await ledger.dispatch.undispatch(
        "library",
        Priority.NORMAL,
        in_queue=in_queue,
        dispatched_before=at(before),
        surely_before=at(surely),
        limit=limit,
    )


async def test_dispatched_requests_that_are_in_no_queue_wait_again(ledger: Ledger) -> None:
    requests = [a_request() for _ in range(5)]
    await _record(ledger, *requests)

    assert 0 == await _undispatch(ledger, in_queue=5, before=100)
    assert 0 == await _undispatch(ledger, in_queue=2, before=0)
    assert 5 == await ledger.dispatch.dispatched("library", Priority.NORMAL, limit=100)
    assert 4 == await ledger.dispatch.dispatched("library", Priority.NORMAL, limit=4)
    assert 3 == await _undispatch(ledger, in_queue=2, before=100)
    assert 2 == await ledger.dispatch.dispatched("library", Priority.NORMAL, limit=100)
    assert 3 == len(await _take(ledger))


async def test_what_was_dispatched_too_long_ago_waits_again_however_full_the_queue_is(ledger: Ledger) -> None:
    old, young = [a_request() for _ in range(5)], [a_request() for _ in range(5)]
    await _record(ledger, *old)
    await ledger.records.record(young, dispatched={request.id for request in young}, now=at(50))

    assert 0 == await _undispatch(ledger, in_queue=200, before=100, surely=0)
    assert 2 == await _undispatch(ledger, in_queue=200, before=100, surely=50, limit=2)
    assert 3 == await _undispatch(ledger, in_queue=200, before=100, surely=50)
    assert 0 == await _undispatch(ledger, in_queue=200, before=100, surely=50)
    assert {request.id for request in old} == {job.request_id for job in await _take(ledger)}


async def test_no_more_wait_again_than_asked_for(ledger: Ledger) -> None:
    await _record(ledger, *(a_request() for _ in range(8)))

    assert 6 == await _undispatch(ledger, in_queue=0, before=100, surely=0, limit=6)


# Reaping


async def test_what_is_queued_for_models_that_are_not_there_is_counted(ledger: Ledger) -> None:
    waiting = [a_request(model="old", device_id=number) for number in (1, 2, 3)]
    dispatched = [a_request(model="old"), a_request(model="older"), a_request(model="library")]
    await _record(ledger, *waiting, a_request(model="library"), dispatched=False)
    await _record(ledger, *dispatched)
    assert {"old": 4, "older": 1} == await ledger.dispatch.queued_for_others(["library"])
    assert {} == await ledger.dispatch.queued_for_others(["library", "old", "older"])

    # What is worked on, or has ended, does not wait.
    (claim,) = await _claim(ledger, dispatched[1])
    await ledger.records.cancel(waiting[0].id, 1, expected=False, now=at(2))

    assert 1 == claim.attempt
    assert {"old": 3} == await ledger.dispatch.queued_for_others(["library"])


async def test_a_claim_that_ran_out_is_queued_again(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)
    await _claim(ledger, request, seconds=1, lasts=5)

    assert (0, []) == await _reap(ledger, seconds=5)
    assert (1, []) == await _reap(ledger, seconds=6)
    assert RequestState.QUEUED is await _state(ledger, request)
    assert 1 == len(await _take(ledger, seconds=6))


async def test_a_request_that_takes_its_workers_with_it_ends_as_failed(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)
    for death in range(2):
        await _claim(ledger, request, seconds=10 * death, lasts=5)
        assert (1, []) == await _reap(ledger, seconds=10 * death + 6)
    await _claim(ledger, request, seconds=30, lasts=5)

    requeued, (response,) = await _reap(ledger, seconds=36)

    (letter,) = await ledger.records.dead_letters(before=None, limit=10)
    assert 0 == requeued
    assert (RequestState.FAILED, 3) == (response.status, response.attempts)
    assert response.error is not None
    assert "3 workers" in response.error.detail
    assert request.id == letter.request_id


@pytest.mark.parametrize("is_claimed", [False, True])
async def test_a_deadline_ends_a_request_whoever_has_it(ledger: Ledger, is_claimed: bool) -> None:
    request = a_request(deadline_at=at(60))
    await _record(ledger, request)
    if is_claimed:
        await _claim(ledger, request, lasts=1000)

    assert (0, []) == await _reap(ledger, seconds=59)
    _, (response,) = await _reap(ledger, seconds=60)

    assert RequestState.EXPIRED is response.status
    assert 0 == await _finish(ledger, request, 1, seconds=61)
    assert [request.id] == await _undelivered(ledger, 1)


#: A NUL can be stored, and makes what is stored no request.
_UNREADABLE = "a\0b"


async def test_an_unreadable_request_ends_with_its_deadline_and_holds_up_no_others(ledger: Ledger) -> None:
    damaged = a_request(prompt=_UNREADABLE, deadline_at=at(60))
    sound = a_request(prompt="Sound?", deadline_at=at(61))
    await _record(ledger, damaged, sound)

    _, responses = await _reap(ledger, seconds=62)

    (letter,) = await ledger.records.dead_letters(before=None, limit=10)
    assert [(damaged.id, RequestState.EXPIRED), (sound.id, RequestState.EXPIRED)] == [
        (response.request_id, response.status) for response in responses
    ]
    assert (damaged.model, damaged.accepted_at) == (responses[0].model, responses[0].accepted_at)
    assert (damaged.id, "The stored request cannot be read.") == (letter.request_id, letter.reason)
    assert "a\0b" in letter.body


async def test_an_unreadable_request_is_listed_and_can_be_cancelled(ledger: Ledger) -> None:
    damaged = a_request(prompt=_UNREADABLE, device_id=3, priority=Priority.HIGH, file_name="a.txt")
    await _record(ledger, damaged, a_request(device_id=3, accepted_at=at(1)))

    page = await _list(ledger, device_id=3)
    cancelled = await ledger.records.cancel(damaged.id, 3, expected=False, now=at(2))

    _, (device_id, shown, status) = page.entries
    assert (3, damaged.id, damaged.id) == (device_id, shown.id, status.id)
    assert (Priority.HIGH, "a.txt", "") == (shown.priority, shown.file_name, shown.input.prompt)
    assert cancelled is not None
    assert RequestState.CANCELLED is cancelled.status


# Deliveries


async def test_answers_wait_in_order_of_completion_until_acknowledged(ledger: Ledger) -> None:
    first, second, third = a_request(), a_request(), a_request()
    await _answered(ledger, second, seconds=20)
    await _answered(ledger, first, seconds=10)
    await _answered(ledger, third, seconds=30)

    acknowledged = await ledger.deliveries.acknowledge([second.id, second.id, uuid4()], 1, now=at(40))
    again = await ledger.deliveries.acknowledge([second.id], 1, now=at(50))

    status = await ledger.records.status(second.id, 1)
    assert [second.id] == list(acknowledged) == list(again)
    assert [first.id, third.id] == await _undelivered(ledger, 1)
    assert {first.id, third.id} == set(await ledger.deliveries.unacknowledged([first.id, second.id, third.id], 1))
    assert status is not None
    assert at(40) == status.acknowledged_at


async def test_answers_come_in_pages(ledger: Ledger) -> None:
    requests = [a_request() for _ in range(5)]
    await _answered(ledger, *requests)

    page = await _page(ledger, limit=3)
    after = (page.answers[-1].completed_at, page.answers[-1].request_id)
    rest = await _page(ledger, after=after, limit=3)

    assert (3, True, 2, False) == (len(page.answers), page.is_more, len(rest.answers), rest.is_more)
    assert {request.id for request in requests} == {answer.request_id for answer in (*page.answers, *rest.answers)}


async def test_a_page_of_answers_is_bounded_in_bytes_and_never_empty_while_there_are_some(ledger: Ledger) -> None:
    requests = [a_request() for _ in range(3)]
    for number, request in enumerate(requests):
        await _record(ledger, request)
        await _claim(ledger, request)
        await _finish(ledger, request, 1, seconds=10 + number, text="x" * 1000)

    one = await _page(ledger, limit_bytes=1)
    two = await _page(ledger, limit_bytes=2900)
    all_of_them = await _page(ledger, limit_bytes=10_000)

    assert ([requests[0].id], True) == (_ids(one), one.is_more)
    assert ([requests[0].id, requests[1].id], True) == (_ids(two), two.is_more)
    assert (3, False) == (len(all_of_them.answers), all_of_them.is_more)


async def test_answers_that_are_on_their_way_are_left_out(ledger: Ledger) -> None:
    first, second = a_request(), a_request()
    await _answered(ledger, first, seconds=10)
    await _answered(ledger, second, seconds=20)

    page = await _page(ledger, leaving_out=[first.id], limit=1)

    assert ([second.id], False) == (_ids(page), page.is_more)


async def test_completions_of_several_devices_are_told_from_a_time_on(ledger: Ledger) -> None:
    requests = [a_request(device_id=1 + number % 3) for number in range(6)]
    for number, request in enumerate(requests):
        await _answered(ledger, request, seconds=10 + number)
    await ledger.deliveries.acknowledge([requests[3].id], 1, now=at(30))

    found = await ledger.deliveries.completed([1, 2], after=(at(10), requests[0].id), limit=10)
    first = await ledger.deliveries.completed([1, 2], after=(at(10), UUID(int=0)), limit=1)

    assert [requests[1].id, requests[4].id] == [completion.request_id for completion in found]
    assert [(requests[0].id, 1, at(10))] == [
        (completion.request_id, completion.device_id, completion.completed_at) for completion in first
    ]
    assert not await ledger.deliveries.completed([], after=(at(0), UUID(int=0)), limit=10)


async def test_what_has_no_answer_cannot_be_acknowledged(ledger: Ledger) -> None:
    request = a_request()
    await _record(ledger, request)

    assert not await ledger.deliveries.acknowledge([request.id], 1, now=at(1))
    assert not await ledger.deliveries.acknowledge([], 1, now=at(1))


async def _files(ledger: Ledger, *, leaving_out: Collection[int] = ()) -> list[tuple[Finished, datetime]]:
    page = await ledger.deliveries.undelivered_files(limit=10, limit_bytes=2**20, leaving_out=leaving_out)
    assert not page.is_more
    return list(page.answers)


async def test_folder_answers_are_the_folders(ledger: Ledger) -> None:
    request = a_request(channel=Channel.FOLDER, file_name="question.txt")
    await _answered(ledger, request)

    assert [] == await _undelivered(ledger, 1)
    ((answer, completed_at),) = await _files(ledger)
    assert ("question.txt", at(10), RequestState.SUCCEEDED) == (answer.file_name, completed_at, answer.state)

    assert [] == await _files(ledger, leaving_out=[1, 2])
    assert 1 == len(await _files(ledger, leaving_out=[2]))

    await ledger.deliveries.acknowledge([request.id], 1, now=at(20))

    assert [] == await _files(ledger)


async def test_folder_answers_are_bounded_in_bytes_and_never_none_while_there_are_some(ledger: Ledger) -> None:
    for number in range(4):
        request = a_request(channel=Channel.FOLDER, file_name=f"{number}.txt")
        await _record(ledger, request)
        await _claim(ledger, request)
        await _finish(ledger, request, 1, seconds=10 + number, text="x" * (10_000 if number < 3 else 50_000))

    async def names(limit: int, limit_bytes: int, delivered: Collection[int] = ()) -> tuple[list[str | None], bool]:
        page = await ledger.deliveries.undelivered_files(limit=limit, limit_bytes=limit_bytes, leaving_out=delivered)
        return [answer.file_name for answer, _ in page.answers], page.is_more

    assert (["0.txt", "1.txt"], True) == await names(10, 25_000)
    assert (["0.txt"], True) == await names(10, 1)
    assert (["0.txt", "1.txt", "2.txt"], True) == await names(10, 60_000)
    assert (["0.txt", "1.txt", "2.txt"], True) == await names(3, 100_000)
    assert (["0.txt", "1.txt", "2.txt", "3.txt"], False) == await names(4, 100_000)
    assert ([], False) == await names(10, 1, delivered=[1])


def test_the_hash_tells_bodies_apart() -> None:
    assert body_hash(b"a") != body_hash(b"b")


# Further files


async def test_further_files_wait_for_a_request_until_they_are_removed_and_acknowledge_nothing(ledger: Ledger) -> None:
    answered, waiting = sorted((a_request(), a_request()), key=lambda request: request.id)
    await _record(ledger, waiting)
    await _answered(ledger, answered)
    for request, name in ((waiting, "w.txt"), (answered, "質.txt"), (answered, "a.txt"), (answered, "a.txt")):
        await ledger.waiting_files.add(request.id, 1, name)

    files = await ledger.waiting_files.page(after=None, limit=10)

    assert [
        WaitingFile(request_id=answered.id, device_id=1, file_name="a.txt", is_ended=True),
        WaitingFile(request_id=answered.id, device_id=1, file_name="質.txt", is_ended=True),
        WaitingFile(request_id=waiting.id, device_id=1, file_name="w.txt", is_ended=False),
    ] == list(files)
    await ledger.waiting_files.remove(answered.id, "a.txt")
    await ledger.waiting_files.remove(answered.id, "nothing.txt")
    assert list(files[1:]) == list(await ledger.waiting_files.page(after=None, limit=10))
    assert [answered.id] == list(await ledger.deliveries.unacknowledged([answered.id], 1))


async def test_further_files_come_in_pages(ledger: Ledger) -> None:
    requests = [a_request() for _ in range(3)]
    await _record(ledger, *requests)
    expected = sorted((request.id, f"{number}.txt") for request in requests for number in range(3))
    for request_id, name in reversed(expected):
        await ledger.waiting_files.add(request_id, 1, name)

    found: list[tuple[UUID, str]] = []
    while page := await ledger.waiting_files.page(after=found[-1] if found else None, limit=2):
        assert len(page) <= 2
        found += [(file.request_id, file.file_name) for file in page]

    assert expected == found


async def test_a_file_whose_request_is_gone_waits_for_nothing(ledger: Ledger) -> None:
    await ledger.waiting_files.add(uuid4(), 1, "a.txt")

    (file,) = await ledger.waiting_files.page(after=None, limit=10)

    assert file.is_ended


# Retention


async def _purge(ledger: Ledger, *, days: float, undelivered_days: float, limit: int = 100) -> int:
    day = 86_400
    return await ledger.records.purge(
        acknowledged_before=at(days * day), undelivered_before=at(undelivered_days * day), limit=limit
    )


async def test_what_is_old_enough_is_removed_and_nothing_else(ledger: Ledger) -> None:
    acknowledged, undelivered, file, open_ = a_request(), a_request(), a_request(file_name="a.txt"), a_request()
    await _answered(ledger, acknowledged, undelivered, file)
    await _record(ledger, open_)
    await ledger.deliveries.acknowledge([acknowledged.id], 1, now=at(20))

    before = await _purge(ledger, days=0, undelivered_days=0)
    first = await _purge(ledger, days=1, undelivered_days=0)
    left_first = set(await ledger.records.standings([acknowledged.id, undelivered.id, file.id, open_.id]))
    second = await _purge(ledger, days=1, undelivered_days=1)
    left = set(await ledger.records.standings([acknowledged.id, undelivered.id, file.id, open_.id]))

    assert (0, 1, 2) == (before, first, second)
    assert {undelivered.id, file.id, open_.id} == left_first
    assert {open_.id} == left


async def test_purging_goes_on_in_batches_until_nothing_is_left(ledger: Ledger) -> None:
    requests = [a_request() for _ in range(5)]
    await _answered(ledger, *requests)
    await ledger.deliveries.acknowledge([request.id for request in requests], 1, now=at(20))

    assert [2, 2, 1, 0] == [await _purge(ledger, days=1, undelivered_days=0, limit=2) for _ in range(4)]


async def test_dead_letters_and_cancellations_without_a_request_are_purged_too(ledger: Ledger) -> None:
    request = a_request()
    await ledger.records.bury(reason="unreadable", body=b"{", now=at(0))
    await ledger.records.bury(reason="unreadable", body=b"[", now=at(200_000))
    await ledger.records.cancel(request.id, 1, expected=True, now=at(0))

    await _purge(ledger, days=1, undelivered_days=1)

    outcomes = await ledger.records.record([request], dispatched=(), now=at(200_000))
    assert ["["] == [letter.body for letter in await ledger.records.dead_letters(before=None, limit=10)]
    assert {request.id: RecordOutcome.NEW} == outcomes
