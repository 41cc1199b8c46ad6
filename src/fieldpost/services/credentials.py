"""Who is at the door: a snapshot of all credentials, so that keys are checked without the database.

Refreshed when the bus tells of a change, every `credentials.refresh_seconds`, and for a key that it does not have. Does not
make or change keys: that is `registration`.
"""

import asyncio
import hashlib
import hmac
import re

from fieldpost.clock import Clock
from fieldpost.errors import (
    BackendUnavailableError,
    DeviceDisabledError,
    ForbiddenError,
    UnauthenticatedError,
    UnavailableError,
)
from fieldpost.messages.devices import Credential
from fieldpost.messages.events import FLEET_CHANNEL, CredentialsChanged
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.ports.shared import Subscription
from fieldpost.services.troubles import Troubles
from fieldpost.services.unknown_keys import UnknownKeys
from fieldpost.services.waiting import keep_going, within
from fieldpost.settings import Settings

_DEVICE_KEY = re.compile(r"fp_([1-9][0-9]{0,18})_([A-Za-z0-9_-]{16,128})", re.ASCII)
_OPERATOR_KEY = re.compile(r"fpa_([a-z0-9-]{1,64})_([A-Za-z0-9_-]{16,128})", re.ASCII)
_PAGE = 5000
#: How often calls that last are held against the snapshot.
_REVOKED_SECONDS = 1.0
#: How long a door waits for the directory before it goes by the snapshot it has.
_ASK_SECONDS = 1.0
#: What a directory can hold; a key may name more.
_MAX_DEVICE_ID = 2**63 - 1
#: Compared against when there is no such device, so that its absence does not show in the time taken.
_NOBODY = bytes(32)

log = get_logger()


def hash_secret(secret: str, pepper: bytes) -> bytes:
    """Keyed BLAKE2b, 32 bytes; the secrets are random and long, so no slow hash is needed. Source: RFC 7693."""
    return hashlib.blake2b(secret.encode(), key=pepper, digest_size=32).digest()


class Credentials:
    """The snapshot; `run` keeps it fresh."""

    def __init__(
        self, *, settings: Settings, backends: Backends, clock: Clock, troubles: Troubles | None = None
    ) -> None:
        self._troubles = troubles
        self._settings = settings.credentials
        self._backends = backends
        self._clock = clock
        self._devices: dict[int, Credential] = {}
        #: One reading at a time, so that an older one never replaces what a newer one found.
        self._reading = asyncio.Lock()
        self._unknown = UnknownKeys(clock, remember_seconds=settings.credentials.refresh_seconds)
        #: Devices that the directory is being asked about, and when that is over.
        self._asking: dict[int, asyncio.Event] = {}
        self.is_loaded = False

    def of(self, device_id: int) -> Credential | None:
        """The device's credential, or None when there is no such device."""
        return self._devices.get(device_id)

    def is_current(self, device: Credential) -> bool:
        """Whether what was checked at a door still holds: the device is there, enabled, and its key the same."""
        current = self._devices.get(device.device_id)
        return current is not None and not current.disabled and current.key_hash == device.key_hash

    def refusal(self, device: Credential) -> ForbiddenError | UnauthenticatedError:
        """Why what was checked at a door does not hold any more."""
        current = self._devices.get(device.device_id)
        if current is not None and current.disabled:
            return DeviceDisabledError(f"device {device.device_id}")
        return UnauthenticatedError("this key is no longer valid")

    async def until_revoked(self, device: Credential) -> None:
        """Returns within a second after the key stopped holding; for calls that last. Cancel: safe."""
        while self.is_current(device):
            await self._clock.sleep(_REVOKED_SECONDS)

    def authenticate(self, authorization: str | None) -> Credential:
        """The device that sent this `Authorization` header.

        Raises:
            UnauthenticatedError: no key, or a wrong one; it does not say what was wrong.
            DeviceDisabledError: the key is right, but the device is disabled.
        """
        match = _DEVICE_KEY.fullmatch(_bearer(authorization))
        if match is None:
            raise UnauthenticatedError("send Authorization: Bearer fp_<device id>_<secret>")
        credential = self._devices.get(int(match[1]))
        expected = credential.key_hash if credential else _NOBODY
        if not hmac.compare_digest(hash_secret(match[2], self._backends.pepper), expected) or credential is None:
            raise UnauthenticatedError("this key is not valid")
        if credential.disabled:
            raise DeviceDisabledError(f"device {credential.device_id}")
        return credential

    async def identify(self, authorization: str | None) -> Credential:
        """As `authenticate`; a key that the snapshot does not have is looked up in the directory once, within bounds.

        So a key is good at every door as soon as it is given out, before the bus has told of it.

        Raises:
            BackendUnavailableError: the snapshot has no such device, and the directory cannot be asked now.
        """
        try:
            return self.authenticate(authorization)
        except UnauthenticatedError:
            match = _DEVICE_KEY.fullmatch(_bearer(authorization))
            if match is None or int(match[1]) > _MAX_DEVICE_ID:
                raise
            device_id = int(match[1])
            is_answered = await self._ask(device_id, hash_secret(match[2], self._backends.pepper))
        if not is_answered and device_id not in self._devices:
            raise BackendUnavailableError("it cannot be found out now whether this key is valid")
        return self.authenticate(authorization)

    def authenticate_operator(self, authorization: str | None) -> str:
        """The name of the operator who sent this `Authorization` header.

        Raises:
            UnauthenticatedError: no operator's key, or a wrong one.
        """
        match = _OPERATOR_KEY.fullmatch(_bearer(authorization))
        if match is None:
            raise UnauthenticatedError("send Authorization: Bearer fpa_<name>_<secret>")
        expected = self._backends.operators.get(match[1], _NOBODY)
        if not hmac.compare_digest(hash_secret(match[2], self._backends.pepper), expected):
            raise UnauthenticatedError("this key is not valid")
        return match[1]

    async def load(self) -> None:
        """Reads all credentials anew."""
        async with self._reading:
            await self._load()

    async def _load(self) -> None:
        devices: dict[int, Credential] = {}
        after = 0
        while True:
            page = await self._backends.devices.credentials(after=after, limit=_PAGE)
            devices.update((credential.device_id, credential) for credential in page)
            if len(page) < _PAGE:
                break
            after = page[-1].device_id
        self._devices = devices
        self.is_loaded = True

    async def reload(self, device_id: int) -> None:
        """Reads one device's credential anew."""
        async with self._reading:
            credential = await self._backends.devices.credential(device_id)
            if credential is None:
                self._devices.pop(device_id, None)
            else:
                self._devices[device_id] = credential

    async def _ask(self, device_id: int, key_hash: bytes) -> bool:
        """Reads one device's credential anew, or waits until another call has; whether the directory has answered."""
        asking = self._asking.get(device_id)
        if asking is not None:
            await asking.wait()
        if self._unknown.is_answered(device_id, key_hash):
            return True
        if asking is not None or not self._unknown.may_ask():
            return False
        asking = self._asking[device_id] = asyncio.Event()
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await self.reload(device_id)
        except (TimeoutError, UnavailableError) as error:
            log.warning("key_not_looked_up", summed=True, device_id=device_id, error=repr(error))
            return False
        else:
            found = self._devices.get(device_id)
            self._unknown.note(device_id, key_hash, is_wrong=found is None or found.key_hash != key_hash)
            return True
        finally:
            del self._asking[device_id]
            asking.set()

    async def run(self) -> None:
        """Keeps the snapshot fresh until cancelled; with the database away the last one stays in force."""
        await keep_going(self._follow, clock=self._clock, loop="credentials", troubles=self._troubles)

    async def _follow(self) -> None:
        async with self._backends.shared.bus.subscribe([FLEET_CHANNEL]) as subscription:
            while True:
                await self.load()
                await self._hear(subscription, self._clock.monotonic() + self._settings.refresh_seconds)

    async def _hear(self, subscription: Subscription, until: float) -> None:
        """Reads what changes, until everything is to be read anew: it is time to, or events were lost."""
        while (left_seconds := until - self._clock.monotonic()) > 0:
            events = await within(subscription.receive(), left_seconds)
            if not events:
                return
            for device_id in {event.device_id for event in events if isinstance(event, CredentialsChanged)}:
                await self.reload(device_id)


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
