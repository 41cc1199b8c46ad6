"""`/`: a page for people, from files in the package; it reads what it shows from the operators' HTTP."""

from collections.abc import Sequence
from importlib import metadata, resources

import msgspec

from fieldpost.clock import Clock
from fieldpost.ports.backends import Backends
from fieldpost.web.operations import Call, Caller, Handler, Operation, Reply

_CONTENT_TYPES = {
    "index.html": b"text/html; charset=utf-8",
    "page.css": b"text/css; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What anyone may know of this Fieldpost."""

    version: str
    started_at: str
    models: Sequence[str]
    default_model: str


class PageOperations:
    """The page, its files, and what it shows to everyone."""

    def __init__(self, *, backends: Backends, clock: Clock, default_model: str) -> None:
        folder = resources.files("fieldpost.templates") / "page"
        self._files = {name: (folder / name).read_bytes() for name in _CONTENT_TYPES}
        self._about = About(
            version=metadata.version("fieldpost"),
            started_at=clock.now().isoformat(),
            models=backends.model_names,
            default_model=default_model,
        )

    def operations(self) -> list[Operation]:
        """The page's, which are not part of the API."""
        files = [self._file("/" if name == "index.html" else f"/page/{name}", name) for name in _CONTENT_TYPES]
        return [*files, self._about_operation()]

    def _file(self, path: str, name: str) -> Operation:
        reply = Reply(body=self._files[name], content_type=_CONTENT_TYPES[name], headers=_HEADERS)

        async def send(_call: Call) -> Reply:
            return reply

        return _operation(path, send)

    def _about_operation(self) -> Operation:
        reply = Reply(body=msgspec.json.encode(self._about))

        async def send(_call: Call) -> Reply:
            return reply

        return _operation("/page/about", send)


def _operation(path: str, handler: Handler) -> Operation:
    return Operation(
        method="GET",
        path=path,
        summary="The page",
        handler=handler,
        caller=Caller.ANYONE,
        is_documented=False,
    )
