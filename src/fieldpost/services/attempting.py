"""One attempt at one request: the model is asked, pieces of its answer go to the bus, the outcome is described."""

import asyncio
from collections.abc import Awaitable, Callable

from fieldpost.clock import Clock
from fieldpost.errors import ModelRefusedError, ModelUnavailableError
from fieldpost.messages.events import ResponseChunk, StateChanged, device_channel
from fieldpost.messages.requests import RequestState
from fieldpost.messages.responses import AttemptResult, Output, Problem
from fieldpost.policy.time_limit import attempt_seconds
from fieldpost.ports.ledger_values import Claim
from fieldpost.ports.models import Model, Question
from fieldpost.ports.shared import Bus
from fieldpost.services import endings
from fieldpost.services.failures import Failures


class Attempting:
    """Makes attempts; knows nothing of queues or claims' renewal."""

    def __init__(self, *, bus: Bus, clock: Clock, failures: Failures, timeout_seconds: float) -> None:
        self._bus = bus
        self._failures = failures
        self._clock = clock
        self._timeout_seconds = timeout_seconds

    async def attempt(self, claim: Claim, model: Model, *, traceparent: str = "") -> AttemptResult:
        """Asks the model; whatever goes wrong becomes part of the result. Cancel: safe, nothing is reported.

        Args:
            traceparent: the attempt's, for the model.
        """
        request = claim.request
        limit_seconds = attempt_seconds(
            now=self._clock.now(), deadline_at=request.deadline_at, timeout_seconds=self._timeout_seconds
        )
        question = Question(
            messages=request.input.as_messages(),
            parameters=request.parameters,
            timeout_seconds=limit_seconds,
            traceparent=traceparent,
        )
        await self._publish_start(claim)
        try:
            async with asyncio.timeout(limit_seconds):
                output = await model.answer(question, self._emitter(claim))
        except TimeoutError as error:
            return self._failed(claim, endings.TIMED_OUT, error, retryable=True)
        except ModelUnavailableError as error:
            problem, wait_seconds = endings.model_unavailable(error.detail), error.retry_after_seconds
            return self._failed(claim, problem, error, retryable=True, retry_after_seconds=wait_seconds)
        except ModelRefusedError as error:
            return self._failed(claim, endings.model_refused(error.detail), error)
        except Exception as error:  # noqa: BLE001 it is logged with its traceback, and bounded
            return self._failed(claim, endings.worker_error(type(error).__name__), error, retryable=True)
        return _result(claim, output=output)

    def _failed(
        self,
        claim: Claim,
        problem: Problem,
        cause: Exception,
        *,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
    ) -> AttemptResult:
        self._failures.note(claim, problem, cause)
        return _result(claim, error=problem, retryable=retryable, retry_after_seconds=retry_after_seconds)

    async def _publish_start(self, claim: Claim) -> None:
        event = StateChanged(
            request_id=claim.request.id,
            device_id=claim.request.device_id,
            status=RequestState.PROCESSING,
            attempt=claim.attempt,
        )
        await self._bus.publish(device_channel(claim.request.device_id), [event])

    def _emitter(self, claim: Claim) -> Callable[[str], Awaitable[None]]:
        index = offset = 0
        channel = device_channel(claim.request.device_id)

        async def emit(text: str) -> None:
            nonlocal index, offset
            chunk = ResponseChunk(
                request_id=claim.request.id,
                device_id=claim.request.device_id,
                attempt=claim.attempt,
                index=index,
                offset=offset,
                text=text,
            )
            index += 1
            offset += len(text)
            await self._bus.publish(channel, [chunk])

        return emit


def _result(
    claim: Claim,
    *,
    output: Output | None = None,
    error: Problem | None = None,
    retryable: bool = False,
    retry_after_seconds: float | None = None,
) -> AttemptResult:
    request = claim.request
    return AttemptResult(
        request_id=request.id,
        device_id=request.device_id,
        attempt=claim.attempt,
        failures=claim.failures,
        model=request.model,
        accepted_at=request.accepted_at,
        file_name=request.file_name,
        traceparent=request.traceparent,
        output=output,
        error=error,
        retryable=retryable,
        retry_after_seconds=retry_after_seconds,
    )
