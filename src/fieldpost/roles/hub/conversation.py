"""One WebSocket: sends what its session brings, while its reader reads; ends alone when anything in it fails."""

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect

from fieldpost.errors import UnavailableError
from fieldpost.messages import frames
from fieldpost.observability import get_logger
from fieldpost.roles.hub.feed import Page
from fieldpost.roles.hub.limits import Limits
from fieldpost.roles.hub.reading import Reader
from fieldpost.roles.hub.session import CLOSE_FAILED, CLOSE_SLOW, Session, SessionEndedError
from fieldpost.roles.hub.wording import encode, hello
from fieldpost.settings import HubSettings

log = get_logger()

_PING = encode(frames.Ping()).decode()
#: Frames of more characters than the server keeps of a connection whose peer does not read.
_LARGE = 65_536


class Conversation:
    """One accepted connection of one session."""

    def __init__(
        self,
        *,
        websocket: WebSocket,
        session: Session,
        settings: HubSettings,
        limits: Limits,
        reader: Reader,
    ) -> None:
        self._websocket = websocket
        self._session = session
        self._device = session.device
        self._feed = session.feed
        self._outbox = session.feed.outbox
        self._settings = settings
        self._limits = limits
        self._reader = reader

    async def run(self) -> None:
        """Serves the connection until it ends, and closes it."""
        end: SessionEndedError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                tasks.create_task(self._bring())
                tasks.create_task(self._reader.run())
                await self._session.until_ended()
        except* SessionEndedError as group:
            end = _first(group)
        except* WebSocketDisconnect:
            log.debug("connection_broke_off", device_id=self._device.device_id)
        except* Exception:
            log.exception("session_failed", summed=True, device_id=self._device.device_id)
            end = SessionEndedError(CLOSE_FAILED, "an internal error")
        if end is not None:
            await self._close(end)

    async def _close(self, end: SessionEndedError) -> None:
        with contextlib.suppress(RuntimeError, OSError, TimeoutError):
            async with asyncio.timeout(self._limits.close_seconds):
                await self._websocket.close(end.code, end.reason)

    async def _bring(self) -> None:
        await self._greet()
        self._reader.greeted.set()
        await self._feed.follow()

    async def _greet(self) -> None:
        """Says hello, with answers unless they would keep the device waiting for it: then they follow by themselves."""
        if self._outbox.has_room_for_answers:
            try:
                async with asyncio.timeout(self._limits.greeting_seconds):
                    await self._feed.put_page(None, limit=self._settings.page, word=self._hello)
            except (UnavailableError, TimeoutError) as error:
                log.info(
                    "session_greeted_without_answers", summed=True, device_id=self._device.device_id, error=repr(error)
                )
            else:
                return
        self._feed.window.is_behind = True
        self._outbox.put(self._hello(Page(answers=(), last=None)))

    def _hello(self, page: Page) -> bytes:
        return hello(self._session, page, heartbeat_seconds=self._settings.ping_seconds)

    async def _write(self) -> None:
        while True:
            text = await self._next()
            is_large = len(text) > _LARGE
            if text:
                await self._send(text)
            # Not held while it is on its way, nor while the next one is waited for.
            del text
            if is_large:
                # The server takes a frame and keeps it; it takes the next one when that is on its way. Until then it counts.
                await self._send(_PING)

    async def _next(self) -> str:
        """What is to be sent now, perhaps nothing; alone when it returns: whatever it was made from is forgotten."""
        item = await self._outbox.take_within(self._settings.ping_seconds)
        if item is None:
            # The greeting comes first.
            return _PING if self._reader.greeted.is_set() else ""
        if item.answer_to is None or self._feed.window.is_on_its_way(item.answer_to):
            return (item.payload if item.word is None else item.word()).decode()
        # It was acknowledged meanwhile, over another connection perhaps, and must not come again.
        return ""

    async def _send(self, text: str) -> None:
        try:
            async with asyncio.timeout(self._limits.send_seconds):
                await self._websocket.send_text(text)
        except TimeoutError:
            raise SessionEndedError(CLOSE_SLOW, "too slow") from None
        except RuntimeError as error:
            # The server had closed the connection by itself: a ping without a pong, a frame against the protocol.
            raise WebSocketDisconnect(code=1006) from error


def _first(group: BaseExceptionGroup[SessionEndedError]) -> SessionEndedError:
    found = group.exceptions[0]
    return found if isinstance(found, SessionEndedError) else _first(found)
