"""Request ids and keys: how they are made and read.

With an idempotency key an id is a name-based UUID of (device, key), the same on every door; without one a UUIDv7.
Source: RFC 9562, sections 5.5 and 5.7.
"""

import hashlib
import random
from datetime import datetime
from uuid import UUID, uuid5

#: Namespace of request ids; changing it would give old keys new ids.
_NAMESPACE = UUID("6f1c1b0a-6f0b-5f5e-9c0e-2f6d1e0b7a11")


def keyed_id(device_id: int, idempotency_key: str) -> UUID:
    """The id of the request that this device posts under this key, on any door."""
    return uuid5(_NAMESPACE, f"{device_id}:{idempotency_key}")


def time_id(now: datetime, source: random.Random) -> UUID:
    """A UUIDv7: milliseconds of `now`, then 74 random bits."""
    milliseconds = int(now.timestamp() * 1000)
    bits = source.getrandbits(74)
    high, low = bits >> 62, bits & ((1 << 62) - 1)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low)


def body_hash(encoded: bytes) -> bytes:
    """SHA-256 of what a request asks, 32 bytes."""
    return hashlib.sha256(encoded).digest()
