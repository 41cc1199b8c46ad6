"""One WebSocket: reads a device's frames, sends what its session brings; ends alone when anything in it fails."""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from uuid import UUID

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from fieldpost.errors import FieldpostError, InvalidRequestError, MalformedRequestError, UnavailableError
from fieldpost.messages import frames
from fieldpost.messages.cursors import read_cursor, write_cursor
from fieldpost.messages.events import ResponseChunk
from fieldpost.messages.requests import Channel, RequestState
from fieldpost.observability import get_logger
from fieldpost.roles.hub.feed import Page
from fieldpost.roles.hub.limits import Limits
from fieldpost.roles.hub.session import (
    CLOSE_BINARY,
    CLOSE_FAILED,
    CLOSE_LEAVING,
    CLOSE_SLOW,
    Session,
    SessionEndedError,
)
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.waiting import within
from fieldpost.settings import HubSettings
from fieldpost.web.problems import invalid_body, problem_of, retry_after_seconds

log = get_logger()

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(frames.DeviceFrame).decode
_PING = _encode(frames.Ping()).decode()
#: Frames of more characters than the server keeps of a connection whose peer does not read.
_LARGE = 65_536


class _Ref(msgspec.Struct):
    """What is needed of a frame that cannot be read, to say which it was."""

    ref: str | None = None


class FrameVoice:
    """Answers as frames."""

    def answer(self, request_id: UUID, body: bytes) -> bytes:  # noqa: ARG002 the body names it
        """A `ResponseReady`."""
        return b'{"type":"ResponseReady","response":' + body + b"}"

    def chunk(self, chunk: ResponseChunk) -> bytes:
        """A `ResponseChunk`."""
        return _encode(
            frames.ResponseChunkFrame(
                request_id=chunk.request_id, attempt=chunk.attempt, index=chunk.index, text=chunk.text
            )
        )

    def leaving(self, reconnect_seconds: float) -> bytes:
        """A `Draining`."""
        return _encode(frames.Draining(reconnect_seconds=reconnect_seconds))


class Conversation:
    """One accepted connection of one session."""

    def __init__(
        self,
        *,
        websocket: WebSocket,
        session: Session,
        settings: HubSettings,
        limits: Limits,
        intake: Intake,
        answers: Answers,
    ) -> None:
        self._websocket = websocket
        self._session = session
        self._device = session.device
        self._feed = session.feed
        self._outbox = session.feed.outbox
        self._settings = settings
        self._limits = limits
        self._intake = intake
        self._answers = answers
        self._places = asyncio.Semaphore(limits.frames_in_hand)

    async def run(self) -> None:
        """Serves the connection until it ends, and closes it."""
        end: SessionEndedError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                await self._greet()
                tasks.create_task(self._feed.follow())
                tasks.create_task(self._read(tasks))
                await self._session.until_ended()
        except* SessionEndedError as group:
            end = _first(group)
        except* WebSocketDisconnect:
            log.debug("connection_broke_off", device_id=self._device.device_id)
        except* Exception:
            log.exception("session_failed", device_id=self._device.device_id)
            end = SessionEndedError(CLOSE_FAILED, "an internal error")
        if end is not None:
            await self._close(end)

    async def _close(self, end: SessionEndedError) -> None:
        with contextlib.suppress(RuntimeError, OSError, TimeoutError):
            async with asyncio.timeout(self._limits.close_seconds):
                await self._websocket.close(end.code, end.reason)

    # What the device sends

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise SessionEndedError(CLOSE_LEAVING, "")
            text = message.get("text")
            if text is None:
                raise SessionEndedError(CLOSE_BINARY, "text frames only")
            try:
                frame = _frame(text)
            except FieldpostError as error:
                await self._reject(error, _ref_of(text))
                continue
            await self._places.acquire()
            tasks.create_task(self._take(frame))

    async def _take(self, frame: frames.DeviceFrame) -> None:
        ref = frame.ref if isinstance(frame, frames.RequestFrame) else None
        try:
            await self._obey(frame)
        except Exception as error:
            if not isinstance(error, FieldpostError):
                log.error("frame_failed", device_id=self._device.device_id, exc_info=error)
            await self._reject(error, ref)
        finally:
            self._places.release()

    async def _obey(self, frame: frames.DeviceFrame) -> None:
        match frame:
            case frames.RequestFrame():
                await self._request(frame)
            case frames.Ack():
                await self._acknowledge(frame.request_ids)
            case frames.Cancel():
                await self._cancel(frame.request_id)
            case frames.HelloPage():
                await self._feed.put_page(read_cursor(frame.after), limit=self._settings.page, word=self._hello)
            case frames.Ping():
                await self._say(frames.Pong(nonce=frame.nonce))
            case frames.Pong():
                pass

    async def _request(self, frame: frames.RequestFrame) -> None:
        accepted = await self._intake.accept(
            self._device,
            frame.body,
            channel=Channel.WEBSOCKET,
            idempotency_key=frame.body.idempotency_key or frame.ref,
            traceparent=frame.traceparent,
        )
        await self._say(
            frames.Accepted(ref=frame.ref, request_id=accepted.request_id, traceparent=accepted.traceparent)
        )

    async def _acknowledge(self, request_ids: Sequence[UUID]) -> None:
        if len(request_ids) > frames.MAX_ACK_IDS:
            raise InvalidRequestError(f"{frames.MAX_ACK_IDS} ids at most", errors=("request_ids",))
        acknowledged = tuple(await self._answers.acknowledge(self._device.device_id, request_ids))
        # Before it is said: what is settled here is not sent any more.
        self._feed.settle(acknowledged)
        await self._say(frames.Acked(request_ids=acknowledged))

    async def _cancel(self, request_id: UUID) -> None:
        status = await self._answers.cancel(self._device.device_id, request_id)
        state = RequestState.CANCELLED if status is None else status.status
        await self._say(frames.Cancelled(request_id=request_id, status=state))

    async def _reject(self, error: Exception, ref: str | None) -> None:
        await self._say(
            frames.Rejected(problem=problem_of(error), ref=ref, retry_after_seconds=retry_after_seconds(error))
        )

    # What the device is sent

    async def _greet(self) -> None:
        """Says hello, with answers unless they would keep the device waiting for it: then they follow by themselves."""
        if self._outbox.has_room_for_answers:
            try:
                await self._feed.put_page(None, limit=self._settings.page, word=self._hello)
            except UnavailableError as error:
                log.info("session_greeted_without_answers", device_id=self._device.device_id, error=repr(error))
            else:
                return
        self._feed.window.is_behind = True
        self._outbox.put(self._hello(Page(answers=(), last=None)))

    def _hello(self, page: Page) -> bytes:
        # What was acknowledged while the frame waited is left out.
        there = [answer.body for answer in page.answers if self._feed.window.is_on_its_way(answer.request_id)]
        hello = frames.Hello(
            device_id=self._device.device_id,
            session=secrets.token_hex(8),
            responses=tuple(msgspec.Raw(body) for body in there),
            next=None if page.last is None else write_cursor(*page.last),
            heartbeat_seconds=self._settings.ping_seconds,
        )
        return _encode(hello)

    async def _say(self, frame: frames.ServerFrame) -> None:
        await self._outbox.put_in_turn(_encode(frame))

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
        item = await within(self._outbox.take(), self._settings.ping_seconds)
        if item is None:
            return _PING
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


def _frame(text: str) -> frames.DeviceFrame:
    try:
        frame: frames.DeviceFrame = _decode(text)
    except msgspec.MsgspecError as error:
        raise invalid_body(error) from error
    except RecursionError:
        raise MalformedRequestError("the frame is nested too deeply") from None
    return frame


def _ref_of(text: str) -> str | None:
    try:
        return msgspec.json.decode(text, type=_Ref).ref
    except (msgspec.MsgspecError, RecursionError):
        return None


def _first(group: BaseExceptionGroup[SessionEndedError]) -> SessionEndedError:
    found = group.exceptions[0]
    return found if isinstance(found, SessionEndedError) else _first(found)
