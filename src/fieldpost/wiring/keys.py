"""The secrets of a data directory: the operator's key, and the pepper of all hashes."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from fieldpost.errors import ConfigError
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.services.credentials import hash_secret
from fieldpost.services.registration import new_secret

_OPERATOR = "operator"
_PEPPER = "pepper.key"
_ADVICE = (
    "copy it from another machine that uses the same database, or put it back from a backup "
    "(lost for good: fieldpost db accept-pepper, then rotate every device's key)"
)


def operator_key(directory: Path) -> str:
    """The operator's key, made on the first start."""
    return _secret_file(directory / "operator.key", lambda: f"fpa_{_OPERATOR}_{new_secret()}")


def operators(key: str, pepper: bytes) -> Mapping[str, bytes]:
    """Keyed hashes of operators' secrets, by name.

    Raises:
        ConfigError: the key is not one.
    """
    prefix, _, rest = key.partition("_")
    name, _, secret = rest.partition("_")
    if prefix != "fpa" or not secret:
        raise ConfigError("operator.key does not hold a key of the form fpa_<name>_<secret>")
    return {name: hash_secret(secret, pepper)}


async def pepper(directory: Path, devices: DeviceDirectory) -> bytes:
    """The key of all hashes; not made where there is one already, for devices' keys are nothing without that one.

    Args:
        devices: asked only when it is not there.

    Raises:
        ConfigError: it is missing or damaged.
    """
    path = directory / _PEPPER
    # Looked for twice: another process may have made it, and noted so in the database, between the two questions.
    if not path.exists() and await _is_in_use(devices) and not path.exists():
        raise ConfigError(f"{path} is missing, and no device's key can be checked without it; {_ADVICE}")
    return _pepper(path)


async def check_pepper(directory: Path, pepper: bytes, devices: DeviceDirectory) -> None:
    """Notes at the first start with which pepper devices' keys are hashed, and holds all others to it.

    Raises:
        ConfigError: it is another.
    """
    own = _fingerprint(pepper)
    kept = await devices.pepper_fingerprint() or await devices.keep_pepper_fingerprint(own)
    if kept != own:
        raise ConfigError(
            f"{directory / _PEPPER} is not the one that the devices' keys in this database are made with; {_ADVICE}"
        )


async def accept_pepper(directory: Path, devices: DeviceDirectory) -> None:
    """From now on keys are hashed with the pepper in this directory, which is made if there is none.

    Raises:
        ConfigError: it is damaged.
    """
    await devices.keep_pepper_fingerprint(_fingerprint(_pepper(directory / _PEPPER)), replace=True)


async def _is_in_use(devices: DeviceDirectory) -> bool:
    return bool(await devices.list(after=0, limit=1)) or await devices.pepper_fingerprint() is not None


def _pepper(path: Path) -> bytes:
    text = _secret_file(path, lambda: secrets.token_hex(32))
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"{path} does not hold what Fieldpost wrote there; put it back from a backup") from None


def _fingerprint(pepper: bytes) -> bytes:
    """Tells peppers apart, and nothing of them."""
    return hashlib.blake2b(key=pepper, person=b"fingerprint", digest_size=16).digest()


def _secret_file(path: Path, make: Callable[[], str]) -> str:
    """The secret in a file that only its owner can read; made on the first start by one process, and then on the disk."""
    try:
        if not path.exists():
            _make(path, make() + "\n")
        secret = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read or made: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} does not hold what Fieldpost wrote there; put it back from a backup") from None
    if not secret:
        raise ConfigError(
            f"{path} is empty; put it back from a backup (a new pepper.key makes every device's key invalid)"
        )
    return secret


def _make(path: Path, content: str) -> None:
    from fieldpost.backends.local_folder import directories

    aside = path.with_suffix(f".{os.getpid()}.new")
    aside.unlink(missing_ok=True)
    _write(aside, content)
    try:
        # Whole or not at all. Unlike a rename this fails when another process was faster: then that one's stands.
        path.hardlink_to(aside)
    except FileExistsError:
        pass
    except OSError:
        # A file system without hard links.
        with contextlib.suppress(FileExistsError):
            _write(path, content)
    finally:
        aside.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Hashes that are made with it will be on the disk: so must be its name.
        directories.sync(directory)
    finally:
        os.close(directory)


def _write(path: Path, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        # Half of it would be taken for the secret.
        path.unlink(missing_ok=True)
        raise
