"""W3C trace context: what ties together all that is done for one request, from its door to its answer.

Owns how a `traceparent` is read and made. Spans, and where they are sent, are a tracer's (`ports.tracing`).
Source: W3C Trace Context, level 1, 3.2.
"""

import random
import re
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

#: Characters of a traceparent, as it is passed on.
LENGTH = 55

#: Version, trace id, parent id, flags, and what later versions may add.
_FIELDS = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_NO_TRACE, _NO_PARENT = "0" * 32, "0" * 16
#: The one flag of level 1: whoever called keeps a record of this trace.
_SAMPLED = 1


def read(text: str | None) -> str:
    """A traceparent as it is passed on; empty when there is none, or none that is valid: those are ignored.

    Of a later version what this one knows is read, and only that is passed on.

    >>> read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    """
    found = _FIELDS.fullmatch(text) if text else None
    if found is None:
        return ""
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or parent_id == _NO_PARENT:
        return ""
    if version == "00" and flags in ("00", "01"):
        return found[0]
    return f"00-{trace_id}-{parent_id}-{int(flags, 16) & _SAMPLED:02x}"


def fresh(source: random.Random) -> str:
    """The beginning of a trace of which nobody keeps a record: the ids find what the logs and the answer say."""
    # All zeros would be no id.
    return f"00-{source.getrandbits(128) or 1:032x}-{source.getrandbits(64) or 1:016x}-00"


def trace_id_of(traceparent: str) -> str:
    """What all spans of a trace share; empty for none."""
    return traceparent[3:35]


class Untraced:
    """The tracer that tells nobody: what came in goes on as it is."""

    is_on = False

    def span(
        self,
        name: str,  # noqa: ARG002
        traceparent: str,
        *,
        started_at: datetime | None = None,  # noqa: ARG002
        **attributes: str | int,  # noqa: ARG002
    ) -> AbstractContextManager[str]:
        """See `ports.tracing.Tracer.span`."""
        return nullcontext(traceparent)
