"""How a request ends without an answer: the problems that devices read, and whether there is another attempt."""

from datetime import datetime, timedelta

from fieldpost.errors import in_full
from fieldpost.messages.problems import problem
from fieldpost.messages.requests import RequestState
from fieldpost.messages.responses import AttemptResult, Problem, Response
from fieldpost.policy.attempts import retry_delay_seconds
from fieldpost.ports.ledger_values import Finish, Retry
from fieldpost.settings import WorkerSettings

EXPIRED = problem("expired", "The deadline passed before the request was answered.", 504)
TIMED_OUT = problem("model-timeout", "The model did not answer in time.", 504)


def too_many_deaths(max_deaths: int) -> Problem:
    """The end of a request that took its workers with it."""
    detail = f"{max_deaths} workers ended while they worked on it"
    return problem("worker-lost", "The request stopped its workers.", 500, detail=detail)


def model_unavailable(detail: str) -> Problem:
    """The model was away on the last attempt."""
    return problem("model-unavailable", "The model is away, overloaded or broke off.", 503, detail=detail)


def model_refused(detail: str) -> Problem:
    """The model will not answer this."""
    return problem("model-refused", "The model refuses this request.", 422, detail=detail)


def worker_error(detail: str) -> Problem:
    """Something of ours went wrong during the attempt."""
    return problem("worker-error", "Something went wrong while the request was worked on.", 500, detail=detail)


def ending(result: AttemptResult, settings: WorkerSettings, now: datetime) -> Finish | Retry:
    """What an attempt's result means for the request."""
    if result.error is not None and result.retryable:
        delay_seconds = retry_delay_seconds(
            result.failures + 1,
            max_attempts=settings.max_attempts,
            first_seconds=settings.retry_seconds,
            cap_seconds=settings.max_retry_seconds,
            retry_after_seconds=result.retry_after_seconds,
        )
        if delay_seconds is not None:
            not_before = now + timedelta(seconds=delay_seconds)
            return Retry(request_id=result.request_id, attempt=result.attempt, not_before=not_before)
    return _finish(result, now)


def _finish(result: AttemptResult, now: datetime) -> Finish:
    response = Response(
        request_id=result.request_id,
        status=RequestState.SUCCEEDED if result.error is None else RequestState.FAILED,
        model=result.model,
        attempts=result.attempt,
        accepted_at=result.accepted_at,
        completed_at=now,
        output=result.output,
        error=result.error,
        file_name=result.file_name,
        traceparent=result.traceparent,
    )
    reason = None if result.error is None else in_full(result.error.title, result.error.detail)
    return Finish(request_id=result.request_id, attempt=result.attempt, response=response, dead_letter=reason)
