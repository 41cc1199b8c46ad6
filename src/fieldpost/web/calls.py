"""How many calls with a key are in hand at once, those that wait included: of all, and of one device."""

from collections import Counter

from fieldpost.errors import OverloadedError, TooManyCallsError
from fieldpost.messages.devices import Credential

#: Of all devices and operators together.
_LIMIT = 10_000


class CallsInHand:
    """Counts them; one for a process. Calls without a key (probes, the page) are not counted, and so never refused."""

    def __init__(self, *, limit_per_device: int, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._limit_per_device = limit_per_device
        self._count = 0
        self._of_device: Counter[int] = Counter()

    def enter(self, device: Credential | None) -> None:
        """Takes a place, to be given back with `leave`.

        Args:
            device: None for an operator, who has no share of its own.

        Raises:
            OverloadedError: no place is left.
            TooManyCallsError: none is left of the device's share.
        """
        if self._count >= self._limit:
            raise OverloadedError(f"{self._limit} calls are in hand")
        if device is not None:
            if self._of_device[device.device_id] >= self._limit_per_device:
                raise TooManyCallsError(f"{self._limit_per_device} calls of this device are in hand")
            self._of_device[device.device_id] += 1
        self._count += 1

    def leave(self, device: Credential | None) -> None:
        """Gives the place back."""
        self._count -= 1
        if device is not None:
            self._of_device[device.device_id] -= 1
            if not self._of_device[device.device_id]:
                del self._of_device[device.device_id]
