"""What a device sends over its WebSocket: frames read, obeyed side by side and answered, so many at once."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec
from starlette.websockets import WebSocket

from fieldpost.errors import FieldpostError, InvalidRequestError, MalformedRequestError
from fieldpost.messages import frames
from fieldpost.messages.cursors import read_cursor
from fieldpost.messages.requests import Channel, RequestState
from fieldpost.observability import get_logger
from fieldpost.roles.hub.holding import Holding
from fieldpost.roles.hub.limits import Limits
from fieldpost.roles.hub.session import CLOSE_BINARY, CLOSE_LEAVING, CLOSE_REVOKED, Session, SessionEndedError
from fieldpost.roles.hub.wording import encode, hello
from fieldpost.services.answers import Answers
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.settings import HubSettings
from fieldpost.web.problems import invalid_body, problem_of, retry_after_seconds

log = get_logger()

_decode = msgspec.json.Decoder(frames.DeviceFrame).decode


#: No longer one is echoed.
_EchoedRef = Annotated[str, msgspec.Meta(max_length=255)]


class _Ref(msgspec.Struct):
    """What is needed of a frame that cannot be read, to say which it was."""

    ref: _EchoedRef | None = None


class Reader:
    """Reads one connection of one session."""

    def __init__(
        self,
        *,
        websocket: WebSocket,
        session: Session,
        settings: HubSettings,
        limits: Limits,
        credentials: Credentials,
        intake: Intake,
        answers: Answers,
        holding: Holding,
    ) -> None:
        self._websocket = websocket
        self._session = session
        self._device = session.device
        self._feed = session.feed
        self._settings = settings
        self._credentials = credentials
        self._intake = intake
        self._answers = answers
        self._holding = holding
        self._places = asyncio.Semaphore(limits.frames_in_hand)
        #: Nothing is said before the greeting.
        self.greeted = asyncio.Event()

    async def run(self) -> None:
        """Reads until the device leaves or its key is revoked, and raises that."""
        with self._holding:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    # What is not read yet waits with the device.
                    await self._holding.room()
                    await self._places.acquire()
                    self._begin(await self._receive(), tasks)

    async def _receive(self) -> str:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise SessionEndedError(CLOSE_LEAVING, "")
        if not self._credentials.is_current(self._device):
            raise SessionEndedError(CLOSE_REVOKED, str(self._credentials.refusal(self._device)))
        text: str | None = message.get("text")
        if text is None:
            raise SessionEndedError(CLOSE_BINARY, "text frames only")
        return text

    def _begin(self, text: str, tasks: asyncio.TaskGroup) -> None:
        # As it lies in memory: one character beyond ASCII makes all the others larger.
        size_bytes = sys.getsizeof(text)
        self._holding.count(size_bytes)
        tasks.create_task(self._take(text, size_bytes))

    async def _take(self, text: str, held_bytes: int) -> None:
        try:
            frame = _frame(text)
            # Neither the text nor the frame is kept for longer than it is needed: the answer may wait long.
            del text
            if isinstance(frame, frames.HelloPage):
                self._holding.count(-held_bytes)
                held_bytes = 0
            reply = frame if isinstance(frame, frames.Rejected) else await self._answer(frame)
            del frame
            payload = b"" if reply is None else encode(reply)
            del reply
            self._holding.count(len(payload) - held_bytes)
            held_bytes = len(payload)
            if payload:
                await self.greeted.wait()
                await self._feed.outbox.put_in_turn(payload)
        finally:
            self._holding.count(-held_bytes)
            self._places.release()

    async def _answer(self, frame: frames.DeviceFrame) -> frames.ServerFrame | None:
        try:
            return await self._obey(frame)
        except Exception as error:
            if not isinstance(error, FieldpostError):
                log.error("frame_failed", summed=True, device_id=self._device.device_id, exc_info=error)
            return _rejected(error, frame.ref if isinstance(frame, frames.RequestFrame) else None)

    async def _obey(self, frame: frames.DeviceFrame) -> frames.ServerFrame | None:
        match frame:
            case frames.RequestFrame():
                return await self._request(frame)
            case frames.Ack():
                return await self._acknowledge(frame.request_ids)
            case frames.Cancel():
                return await self._cancel(frame.request_id)
            case frames.HelloPage():
                await self._page(frame.after)
            case frames.Ping():
                return frames.Pong(nonce=frame.nonce)
            case frames.Pong():
                pass
        return None

    async def _request(self, frame: frames.RequestFrame) -> frames.Accepted:
        accepted = await self._intake.accept(
            self._device,
            frame.body,
            channel=Channel.WEBSOCKET,
            idempotency_key=frame.body.idempotency_key or frame.ref,
            traceparent=frame.traceparent,
        )
        state = RequestState.QUEUED
        if accepted.duplicate:
            state = await self._answers.state(self._device.device_id, accepted.request_id)
        return frames.Accepted(
            ref=frame.ref, request_id=accepted.request_id, traceparent=accepted.traceparent, status=state
        )

    async def _acknowledge(self, request_ids: Sequence[UUID]) -> frames.Acked:
        if len(request_ids) > frames.MAX_ACK_IDS:
            raise InvalidRequestError(f"{frames.MAX_ACK_IDS} ids at most", errors=("request_ids",))
        acknowledged = tuple(await self._answers.acknowledge(self._device.device_id, request_ids))
        # Before it is said: what is settled here is not sent any more.
        self._feed.settle(acknowledged)
        return frames.Acked(request_ids=acknowledged)

    async def _cancel(self, request_id: UUID) -> frames.Cancelled:
        status = await self._answers.cancel(self._device.device_id, request_id)
        state = RequestState.CANCELLED if status is None else status.status
        return frames.Cancelled(request_id=request_id, status=state)

    async def _page(self, after: str) -> None:
        cursor = read_cursor(after)
        await self.greeted.wait()
        settings = self._settings
        await self._feed.put_page(
            cursor,
            limit=settings.page,
            word=lambda page: hello(self._session, page, heartbeat_seconds=settings.ping_seconds),
        )


def _frame(text: str) -> frames.DeviceFrame | frames.Rejected:
    """The frame, or how it is refused."""
    try:
        frame: frames.DeviceFrame = _decode(text)
    except msgspec.MsgspecError as error:
        return _rejected(invalid_body(error), _ref_of(text))
    except RecursionError:
        return _rejected(MalformedRequestError("the frame is nested too deeply"), _ref_of(text))
    return frame


def _rejected(error: Exception, ref: str | None) -> frames.Rejected:
    return frames.Rejected(problem=problem_of(error), ref=ref, retry_after_seconds=retry_after_seconds(error))


def _ref_of(text: str) -> str | None:
    try:
        return msgspec.json.decode(text, type=_Ref).ref
    except (msgspec.MsgspecError, RecursionError):
        return None
