"""How much of large replies a process holds until slow readers have taken it: of all, and for one device."""

from collections.abc import Iterator
from contextlib import contextmanager

from fieldpost.errors import OverloadedError
from fieldpost.messages.devices import Credential

#: Smaller replies are bounded by the calls in hand.
LARGE_BYTES = 65_536
_LIMIT_BYTES = 256 * 2**20
_LIMIT_BYTES_PER_DEVICE = 32 * 2**20


class UnsentReplies:
    """Counts their bytes; one for a process. One that finds no room is given up, and 503 sent in its place."""

    def __init__(
        self, *, limit_bytes: int = _LIMIT_BYTES, limit_bytes_per_device: int = _LIMIT_BYTES_PER_DEVICE
    ) -> None:
        self._limit_bytes = limit_bytes
        self._limit_bytes_per_device = limit_bytes_per_device
        self._bytes = 0
        #: Only of devices that have some; operators have a share together, as device 0.
        self._of_device: dict[int, int] = {}

    @contextmanager
    def holding(self, size_bytes: int, device: Credential | None) -> Iterator[None]:
        """Counts a reply while it is sent.

        Raises:
            OverloadedError: there is no room for it. A single one always has room.
        """
        if size_bytes <= LARGE_BYTES:
            yield
            return
        device_id = 0 if device is None else device.device_id
        its_bytes = self._of_device.get(device_id, 0)
        if its_bytes and its_bytes + size_bytes > self._limit_bytes_per_device:
            raise OverloadedError("read the replies that wait for this device first")
        if self._bytes and self._bytes + size_bytes > self._limit_bytes:
            raise OverloadedError("too many replies wait for their readers")
        self._bytes += size_bytes
        self._of_device[device_id] = its_bytes + size_bytes
        try:
            yield
        finally:
            self._bytes -= size_bytes
            left_bytes = self._of_device.pop(device_id) - size_bytes
            if left_bytes:
                self._of_device[device_id] = left_bytes
