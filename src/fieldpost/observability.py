"""Logs and metrics: event names and fields, never prose.

Nothing here is global but structlog's configuration at start, and what the running task works on (`handling`).
"""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: A kind of line that is summed up is written once in this time.
_SUM_SECONDS = 30.0

#: Upper bounds of the classes of `fieldpost_answer_seconds`: from a passage looked up to a device's day without a model.
_ANSWER_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 14_400, 86_400)


def configure_logs(*, style: str, level: str, instance: str = "") -> None:
    """Sends logs to standard error, one line per event; called once, at start.

    Args:
        instance: the process's name among others, in every line.
    """
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            Summing(),
            structlog.contextvars.merge_contextvars,
            add_handled,
            partial(_add_instance, instance),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_names: _StandardErrorLogger(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _add_instance(instance: str, _logger: Any, _method: str, fields: Any) -> Any:
    if instance:
        fields["instance"] = instance
    return fields


class Summing:
    """Of lines that say `summed=`, one a period of each kind; how many were left out is told at its end.

    For what anybody outside can bring about again and again: a flood of bad files is no flood of lines. A kind is an event,
    and what `summed` names: `True`, or one of few parts.
    """

    def __init__(
        self,
        *,
        seconds: float = _SUM_SECONDS,
        # The clock lies beside this module, not beneath it.
        monotonic: Callable[[], float] = time.monotonic,  # noqa: TID251
    ) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        #: When each kind is written again, and how many were left out until then.
        self._until: dict[tuple[str, object], float] = {}
        self._left_out: dict[tuple[str, object], int] = {}

    def __call__(self, _logger: Any, method: str, fields: Any) -> Any:
        """The line, unless it is left out."""
        summed = fields.pop("summed", False)
        if not summed:
            return fields
        kind, now = (fields["event"], summed), self._monotonic()
        if now < self._until.get(kind, now):
            self._leave_out(kind, method)
            raise structlog.DropEvent
        self._until[kind] = now + self._seconds
        left_out = self._left_out.pop(kind, 0)
        return {**fields, "left_out": left_out} if left_out else fields

    def _leave_out(self, kind: tuple[str, object], method: str) -> None:
        self._left_out[kind] = self._left_out.get(kind, 0) + 1
        if self._left_out[kind] > 1:
            return
        # Where no loop runs, the next line of the kind tells.
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            loop.call_later(self._until[kind] - self._monotonic(), self._tell, kind, method)

    def _tell(self, kind: tuple[str, object], method: str) -> None:
        left_out = self._left_out.pop(kind, 0)
        if not left_out:
            return
        event, part = kind
        self._until[kind] = self._monotonic() + self._seconds
        of_part = {} if part is True else {"part": part}
        with not_handling():
            # An error's trace was in the first line.
            getattr(get_logger(), "error" if method == "exception" else method)(event, left_out=left_out, **of_part)


class handling:  # noqa: N801 used like a function
    """While the context lasts, every line that is logged names this request, its trace and its attempt.

    Cheap, for every request passes through several: what is named becomes text only when a line is written.
    """

    __slots__ = ("_attempt", "_request_id", "_token", "traceparent")

    def __init__(self, request_id: UUID, traceparent: str, attempt: int = 0) -> None:
        self._request_id = request_id
        self.traceparent = traceparent
        self._attempt = attempt

    def __enter__(self) -> None:
        self._token: Token[handling | None] = _handled.set(self)

    def __exit__(self, *_error: object) -> None:
        _handled.reset(self._token)

    def fields(self) -> dict[str, Any]:
        """What a line says of it."""
        told: dict[str, Any] = {"request_id": str(self._request_id)}
        if self.traceparent:
            # Between version and parent id.
            told["trace_id"] = self.traceparent[3:35]
        if self._attempt:
            told["attempt"] = self._attempt
        return told


_handled: ContextVar[handling | None] = ContextVar("handled", default=None)


@contextlib.contextmanager
def not_handling() -> Iterator[None]:
    """While the context lasts, lines name nothing that is handled."""
    token = _handled.set(None)
    try:
        yield
    finally:
        _handled.reset(token)


def handled_traceparent() -> str:
    """The trace of what the running task handles; empty for none."""
    handled = _handled.get()
    return "" if handled is None else handled.traceparent


def add_handled(_logger: Any, _method: str, fields: Any) -> Any:
    """Adds what is handled to a line; what the line says itself stands."""
    handled = _handled.get()
    return fields if handled is None else {**handled.fields(), **fields}


class _StandardErrorLogger(structlog.PrintLogger):
    """Loses lines that cannot be written: a log on a full disk, or a pipe that nobody reads, stops nothing else."""

    def msg(self, message: str) -> None:
        """Writes a line."""
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def get_logger() -> Any:
    """A logger: `log.info("event_name", field=value)`."""
    return structlog.get_logger()


class Metrics:
    """The numbers of one process, under its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.accepted = Counter(
            "fieldpost_requests_accepted_total", "Requests accepted", ["channel"], registry=self.registry
        )
        self.finished = Counter(
            "fieldpost_requests_finished_total", "Requests ended", ["state"], registry=self.registry
        )
        self.attempts = Counter(
            "fieldpost_attempts_total",
            "Attempts by model and outcome",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.sessions = Gauge("fieldpost_hub_sessions", "WebSocket and SSE sessions", registry=self.registry)
        self.broadcasts = Counter(
            "fieldpost_hub_broadcasts_total",
            "Broadcasts by what a session did with them: sent, left_out (it had no room)",
            ["outcome"],
            registry=self.registry,
        )
        self.answer_seconds = Histogram(
            "fieldpost_answer_seconds",
            "From acceptance to final answer, by model and outcome",
            ["model", "outcome"],
            buckets=_ANSWER_SECONDS,
            registry=self.registry,
        )
        self.role_restarts = Counter(
            "fieldpost_role_restarts_total",
            "Roles restarted after an error",
            ["role"],
            registry=self.registry,
        )
