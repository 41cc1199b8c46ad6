"""How many calls with a key are in hand at once, those that wait included: of all, and of one device."""

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
        #: Only of devices that have some.
        self._of_device: dict[int, int] = {}

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
            its_count = self._of_device.get(device.device_id, 0)
            if its_count >= self._limit_per_device:
                raise TooManyCallsError(f"{self._limit_per_device} is its share")
            self._of_device[device.device_id] = its_count + 1
        self._count += 1

    def leave(self, device: Credential | None) -> None:
        """Gives the place back."""
        self._count -= 1
        if device is not None:
            left = self._of_device.pop(device.device_id) - 1
            if left:
                self._of_device[device.device_id] = left
