"""For which keys that the snapshot does not have a door asks the directory: a flood of wrong ones is no flood of queries."""

from cachetools import TTLCache

from fieldpost.clock import Clock
from fieldpost.policy.token_bucket import Bucket, take

#: Questions of one process; a wrong key that comes again, or to a device just asked about, is none.
_PER_SECOND = 10.0
_BURST = 20.0
#: One device is asked about so often: what was read is in the snapshot, so that its new key is known after that too.
_DEVICE_SECONDS = 1.0
_MAX_REMEMBERED = 10_000


class UnknownKeys:
    """Remembers what was asked lately."""

    def __init__(self, clock: Clock, *, remember_seconds: float) -> None:
        self._clock = clock
        self._bucket = Bucket(tokens=_BURST, at_seconds=clock.monotonic())
        now = clock.monotonic
        #: Keys are random and known only once they are in force, so that a wrong one stays wrong.
        self._wrong: TTLCache[tuple[int, bytes], None] = TTLCache(_MAX_REMEMBERED, ttl=remember_seconds, timer=now)
        self._asked: TTLCache[int, None] = TTLCache(_MAX_REMEMBERED, ttl=_DEVICE_SECONDS, timer=now)

    def is_answered(self, device_id: int, key_hash: bytes) -> bool:
        """Whether the directory was asked about this device a moment ago, or about this key before."""
        return (device_id, key_hash) in self._wrong or device_id in self._asked

    def may_ask(self) -> bool:
        """Whether the directory may be asked once more now."""
        self._bucket, is_taken = take(
            self._bucket, now_seconds=self._clock.monotonic(), per_second=_PER_SECOND, burst=_BURST
        )
        return is_taken

    def note(self, device_id: int, key_hash: bytes, *, is_wrong: bool) -> None:
        """The directory has answered."""
        self._asked[device_id] = None
        if is_wrong:
            self._wrong[device_id, key_hash] = None
