"""How commands find the server and speak to it as an operator."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fieldpost.errors import BackendUnavailableError, UnauthenticatedError

Url = Annotated[str | None, typer.Option(help="The server (default FIELDPOST_URL or http://127.0.0.1:5000).")]
Data = Annotated[str | None, typer.Option(help="The server's data directory, for the operator's key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Operator:
    """The operators' HTTP, with the operator's key from the settings or the data directory."""

    def __init__(self, url: str | None, data: str | None) -> None:
        from fieldpost import settings

        overrides: dict[str, dict[str, object]] = {"client": {}, "data": {}}
        if url is not None:
            overrides["client"]["url"] = url
        if data is not None:
            overrides["data"]["directory"] = data
        loaded = settings.load(overrides=overrides)
        self.url = loaded.client.url.rstrip("/")
        self.directory = Path(loaded.data.directory)
        self._key = loaded.client.operator_key or self._key_in(self.directory)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The decoded reply.

        Raises:
            FieldpostError: the server is not there, or refuses.
        """
        import httpx

        from fieldpost.client.problems import raise_for

        try:
            reply = httpx.request(
                method,
                f"{self.url}{path}",
                json=body,
                headers={"Authorization": f"Bearer {self._key}"},
                timeout=30,
            )
        except httpx.TransportError as error:
            raise nobody_there(self.url) from error
        raise_for(reply.status_code, reply.headers.get("retry-after"), reply.content)
        return reply.json() if reply.content else None

    @staticmethod
    def _key_in(directory: Path) -> str:
        path = directory / "operator.key"
        try:
            return path.read_text(encoding="ascii").strip()
        except OSError:
            raise UnauthenticatedError(
                f"no operator's key: set FIELDPOST_OPERATOR_KEY, or say where the server keeps its data "
                f"(--data or FIELDPOST_DATA; {path} is not there)"
            ) from None


def nobody_there(url: str) -> BackendUnavailableError:
    """The server does not answer."""
    return BackendUnavailableError(f"There is no Fieldpost at {url}. Start one with: fieldpost up")
