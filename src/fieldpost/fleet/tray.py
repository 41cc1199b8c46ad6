"""One device's four folders in the cloud folder, as a sync client would fill and read them. Synchronous."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fieldpost.errors import CorruptDataError
from fieldpost.messages.responses import Problem, Response

_ANSWER = ".answer.json"
_REASON = ".reason.json"


class Tray:
    """Files are named by the name of the file that asked; each call but `clear` may raise OSError."""

    def __init__(self, cloud: Path, device_id: int) -> None:
        self._requests, self._responses, self._rejected, self._done = (
            cloud / name / str(device_id) for name in ("Requests", "Responses", "Rejected", "Done")
        )

    def drop(self, name: str, content: bytes) -> None:
        """The file appears whole."""
        self._requests.mkdir(parents=True, exist_ok=True)
        partial = self._requests / f"{name}.partial"
        partial.write_bytes(content)
        partial.rename(self._requests / name)

    def answered(self) -> set[str]:
        """Files that have their answer."""
        return _names(self._responses, _ANSWER)

    def refused(self) -> set[str]:
        """Files that were refused."""
        return _names(self._rejected, _REASON)

    def taken(self) -> set[str]:
        """Files whose request is safe in the ledger."""
        return _names(self._done, "")

    def answer(self, name: str) -> Response:
        """The answer to a file.

        Raises:
            CorruptDataError: it is no answer, or that of another file.
        """
        path = self._responses / f"{name}{_ANSWER}"
        try:
            response = msgspec.json.decode(path.read_bytes(), type=Response)
        except msgspec.MsgspecError as error:
            raise CorruptDataError(f"{path}: {error}") from error
        if response.file_name != name:
            raise CorruptDataError(f"{path} answers {response.file_name}")
        return response

    def reason(self, name: str) -> str:
        """Why a file was refused."""
        path = self._rejected / f"{name}{_REASON}"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Problem).title
        except msgspec.MsgspecError as error:
            raise CorruptDataError(f"{path}: {error}") from error

    def clear(self, names: Iterable[str]) -> None:
        """Takes away these files and what became of them, and the folders that are empty then, as far as it can."""
        for name in names:
            for path in (
                self._requests / name,
                self._requests / f"{name}.partial",
                self._done / name,
                self._responses / f"{name}{_ANSWER}",
                self._rejected / name,
                self._rejected / f"{name}{_REASON}",
            ):
                with contextlib.suppress(OSError):
                    path.unlink()
        for folder in (self._requests, self._done, self._responses, self._rejected):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _names(folder: Path, suffix: str) -> set[str]:
    try:
        return {path.name.removesuffix(suffix) for path in folder.iterdir() if path.name.endswith(suffix)}
    except FileNotFoundError:
        return set()
