"""Which part of the keys is not worth asking for now, because the node that has it does not answer; pure.

Nodes own ranges of hash slots; the circuits stand for equal ranges, so that a dead node opens its own and leaves the rest.
"""

import binascii

#: Source: Redis Cluster specification, "Key distribution model".
_SLOTS = 16_384
_RANGES = 64
#: Failures in a row that open a circuit, and how long it stays so before one caller tries again.
_FAILURES = 2
_OPEN_SECONDS = 1.0


class Circuits:
    """One for each range of slots."""

    def __init__(self) -> None:
        self._failures = [0] * _RANGES
        self._closed_at = [0.0] * _RANGES

    def allows(self, key: bytes, now: float) -> bool:
        """Whether to ask for the key; says yes to one caller a while for a circuit that is open."""
        number = range_of(key)
        if self._failures[number] < _FAILURES:
            return True
        if now < self._closed_at[number]:
            return False
        self._closed_at[number] = now + _OPEN_SECONDS
        return True

    def failed(self, key: bytes, now: float) -> None:
        """Notes that a call was not answered."""
        number = range_of(key)
        self._failures[number] += 1
        self._closed_at[number] = now + _OPEN_SECONDS

    def succeeded(self, key: bytes) -> None:
        """Closes the key's circuit."""
        self._failures[range_of(key)] = 0

    def close(self) -> None:
        """Closes all of them."""
        self._failures = [0] * _RANGES


def range_of(key: bytes) -> int:
    """Keys of one range are mostly on one node."""
    # CRC16/XMODEM, which Redis takes for its slots; our keys have no hash tags.
    return binascii.crc_hqx(key, 0) % _SLOTS * _RANGES // _SLOTS
