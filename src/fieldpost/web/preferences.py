"""The `Prefer` header. Source: RFC 7240."""

import re

_WAIT = re.compile(r"""(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])""", re.IGNORECASE)


def wait_seconds(prefer: str | None, *, cap: float) -> float | None:
    """How long the caller wants to wait, at most `cap`; None when it does not say so in a way that can be read.

    >>> wait_seconds("respond-async, wait=10", cap=300)
    10.0
    >>> wait_seconds("wait=ten", cap=300)
    """
    match = _WAIT.search(prefer or "")
    return min(float(match[1]), cap) if match else None
