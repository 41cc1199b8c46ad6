"""The secrets of a data directory: the operator's key, and the pepper of all hashes."""

import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fieldpost.errors import ConfigError
from fieldpost.services.credentials import hash_secret
from fieldpost.services.registration import new_secret

_OPERATOR = "operator"


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


async def pepper(directory: Path, *, has_devices: Callable[[], Awaitable[bool]]) -> bytes:
    """The key of all hashes; not made once there are devices, whose keys are nothing without the one there was.

    Args:
        has_devices: asked only when it is not there.

    Raises:
        ConfigError: it is missing or damaged.
    """
    path = directory / "pepper.key"
    if not path.exists() and await has_devices():
        raise ConfigError(
            f"{path} is missing, and no device's key can be checked without it; put it back from a backup "
            f"(without one: openssl rand -hex 32 > {path}, then rotate every device's key)"
        )
    text = _secret_file(path, lambda: secrets.token_hex(32))
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"{path} does not hold what Fieldpost wrote there; put it back from a backup") from None


def _secret_file(path: Path, make: Callable[[], str]) -> str:
    """The secret in a file that only its owner can read; made on the first start, whole or not at all, by one process."""
    if not path.exists():
        aside = path.with_suffix(f".{os.getpid()}.new")
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(descriptor)
        # Unlike a rename this fails when another process was faster: then that one's stands.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(aside)
        aside.unlink()
    secret = path.read_text(encoding="ascii").strip()
    if not secret:
        raise ConfigError(
            f"{path} is empty; put it back from a backup (a new pepper.key makes every device's key invalid)"
        )
    return secret
