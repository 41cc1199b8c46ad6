"""How commands find the server and speak to it as an operator."""

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from fieldpost.errors import FieldpostError, OutcomeUnknownError, UnauthenticatedError, UnreachableError

#: Where a server is when nothing says otherwise.
DEFAULT_URL = "http://127.0.0.1:5000"

Url = Annotated[str | None, typer.Option(help=f"The server (default FIELDPOST_URL or {DEFAULT_URL}).")]
Data = Annotated[str | None, typer.Option(help="The server's data directory, for the operator's key.")]
Key = Annotated[str | None, typer.Option(help="The device's key (default FIELDPOST_KEY).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Operator:
    """The operators' HTTP, with the operator's key from the settings or the data directory."""

    def __init__(self, url: str | None, data: str | None) -> None:
        from fieldpost import settings
        from fieldpost.client.address import checked_url

        overrides: dict[str, dict[str, object]] = {"client": {}, "data": {}}
        if url is not None:
            overrides["client"]["url"] = url
        if data is not None:
            overrides["data"]["directory"] = data
        loaded = settings.load(overrides=overrides)
        self.url = checked_url(loaded.client.url)
        self.directory = Path(loaded.data.directory)
        self._key = loaded.client.operator_key or self._key_in(self.directory)
        if not self._key.isascii() or not self._key.isprintable():
            raise UnauthenticatedError("an operator's key reads fpa_<name>_<secret>; this is none")

    @property
    def owns_directory(self) -> bool:
        """Whether the data directory is that of the server which takes this key."""
        with contextlib.suppress(UnauthenticatedError):
            return self._key == self._key_in(self.directory)
        return False

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The decoded reply.

        Raises:
            FieldpostError: the server is not there, or refuses.
        """
        import httpx

        from fieldpost.client.problems import raise_for

        headers = {"Authorization": f"Bearer {self._key}"}
        try:
            reply = httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=30)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise nobody_there(self.url) from error
        except httpx.TransportError as error:
            raise OutcomeUnknownError(f"{self.url} did not answer: {error}") from error
        raise_for(reply.status_code, reply.headers.get("retry-after"), reply.content)
        return reply.json() if reply.content else None

    @staticmethod
    def _key_in(directory: Path) -> str:
        path = directory / "operator.key"
        try:
            return path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise UnauthenticatedError(
                f"no operator's key: set FIELDPOST_OPERATOR_KEY, or say where the server keeps its data "
                f"(--data or FIELDPOST_DATA; {path} cannot be read)"
            ) from None


def nobody_there(url: str) -> FieldpostError:
    """The server does not answer."""
    return UnreachableError(f"There is no Fieldpost at {url}. Start one with: fieldpost up")
