"""Where a device's server is, and the key it speaks with."""

import re
from urllib.parse import urlsplit

import msgspec

from fieldpost import settings
from fieldpost.errors import ConfigError, UnauthenticatedError

_KEY = re.compile(r"fp_([1-9][0-9]{0,18})_[A-Za-z0-9_-]{16,128}", re.ASCII)


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A server's base URL and a device's key; made by `find`, which checks both."""

    url: str
    key: str
    device_id: int

    def __repr__(self) -> str:
        return f"{self.url}, device {self.device_id}"

    @property
    def stream_url(self) -> str:
        """Where the WebSocket is."""
        return f"{self.url.replace('http', 'ws', 1)}/v1/stream"

    @property
    def headers(self) -> dict[str, str]:
        """What proves who calls."""
        return {"Authorization": f"Bearer {self.key}"}


def find(url: str | None = None, key: str | None = None) -> Address:
    """The address; what is not given comes from the settings (`FIELDPOST_URL`, `FIELDPOST_KEY`).

    Raises:
        ConfigError: the URL is not one of HTTP.
        UnauthenticatedError: there is no key, or it cannot be a device's.
    """
    if url is None or key is None:
        found = settings.load().client
        url, key = url or found.url, key or found.key
    return Address(url=checked_url(url), key=key.strip(), device_id=_device_id(key.strip()))


def checked_url(url: str) -> str:
    """A base URL without a slash at its end.

    Raises:
        ConfigError: it is not one of HTTP.
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or not url.isprintable():
        raise ConfigError(f"{url!r} is no server's address; one reads http://127.0.0.1:5000")
    return url.rstrip("/")


def _device_id(key: str) -> int:
    match = _KEY.fullmatch(key)
    if match is None:
        what = "this is none" if key else "set FIELDPOST_KEY or give one"
        raise UnauthenticatedError(f"a device's key reads fp_<device id>_<secret>; {what}")
    return int(match[1])
