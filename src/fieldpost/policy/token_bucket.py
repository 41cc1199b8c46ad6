"""A bucket that fills steadily and holds a burst: in any time t at most burst + rate × t are taken from it."""

import msgspec


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """What was in it, and when."""

    tokens: float
    at_seconds: float


def take(bucket: Bucket, *, now_seconds: float, per_second: float, burst: float) -> tuple[Bucket, bool]:
    """Takes one token where there is one; returns the bucket after that, and whether there was.

    Args:
        now_seconds: by a clock that does not go back.
    """
    tokens = min(burst, bucket.tokens + per_second * max(now_seconds - bucket.at_seconds, 0.0))
    is_taken = tokens >= 1
    return Bucket(tokens=tokens - 1 if is_taken else tokens, at_seconds=now_seconds), is_taken
