"""Logs and metrics: event names and fields, never prose.

Nothing here is global but structlog's configuration at start, and what the running task works on (`handling`).
"""

import contextlib
import logging
import sys
from contextvars import ContextVar, Token
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
