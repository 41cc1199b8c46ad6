"""One WebSocket session: reads frames, sends answers, hears events; ends alone when anything in it fails."""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from uuid import UUID

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from fieldpost.errors import FieldpostError, InvalidRequestError
from fieldpost.messages import frames
from fieldpost.messages.cursors import read_cursor, write_cursor
from fieldpost.messages.devices import Credential
from fieldpost.messages.events import Acknowledged, Event, ResponseChunk, ResponseReady
from fieldpost.messages.requests import Channel, RequestState
from fieldpost.messages.responses import StoredResponse
from fieldpost.observability import get_logger
from fieldpost.roles.hub.outbox import Outbox
from fieldpost.roles.hub.window import Window
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Listener
from fieldpost.services.waiting import within
from fieldpost.settings import HubSettings
from fieldpost.web.problems import invalid_body, problem_of, retry_after_seconds

#: Request frames of one session whose outcome is open; past that its frames wait unread.
MAX_OPEN_REQUESTS = 64
#: A peer that takes nothing for this long is too slow.
SEND_SECONDS = 15.0
CLOSE_LEAVING, CLOSE_BINARY, CLOSE_REVOKED, CLOSE_SLOW = 1001, 1003, 1008, 1013

log = get_logger()

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(frames.DeviceFrame).decode


class _Ref(msgspec.Struct):
    """What is needed of a frame that cannot be read, to say which it was."""

    ref: str | None = None


class SessionEndedError(Exception):
    """The session is over; tells the close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Session:
    """One connection of one device."""

    def __init__(
        self,
        *,
        websocket: WebSocket,
        device: Credential,
        settings: HubSettings,
        intake: Intake,
        answers: Answers,
        listener: Listener,
    ) -> None:
        self.device = device
        self.window = Window(settings.max_unacknowledged)
        self._websocket = websocket
        self._settings = settings
        self._intake = intake
        self._answers = answers
        self._listener = listener
        self._outbox = Outbox()
        self._open_requests = asyncio.Semaphore(MAX_OPEN_REQUESTS)
        self._ending: asyncio.Future[SessionEndedError] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serves the accepted connection until it ends, and closes it."""
        end: SessionEndedError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                await self._hello(after=None)
                tasks.create_task(self._hear())
                tasks.create_task(self._read(tasks))
                end = await self._ending
                raise end
        except* SessionEndedError as group:
            end = _first(group)
        except* (WebSocketDisconnect, RuntimeError, OSError):
            # The connection broke off.
            end = None
        if end is None:
            return
        with contextlib.suppress(RuntimeError, OSError, TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                await self._websocket.close(end.code, end.reason)

    def end(self, code: int, reason: str) -> None:
        """Ends the session from outside."""
        if not self._ending.done():
            self._ending.set_result(SessionEndedError(code, reason))

    async def leave(self, reconnect_seconds: float) -> None:
        """Tells the device to come back later, and ends the session."""
        await self._outbox.put_if_room(_encode(frames.Draining(reconnect_seconds=reconnect_seconds)))
        await within(self._outbox.flushed(), 1.0)
        self.end(CLOSE_LEAVING, "draining")

    async def push(self, request_id: UUID, body: bytes) -> None:
        """Sends an answer, unless this session has sent it before or has enough on its way. Never waits for the peer."""
        if not self._outbox.has_room:
            self.window.has_turned_away = True
        elif self.window.admit(request_id):
            await self._outbox.put(b'{"type":"ResponseReady","response":' + body + b"}")

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
                frame = _decode(text)
            except (msgspec.MsgspecError, UnicodeEncodeError) as error:
                problem = invalid_body(error) if isinstance(error, msgspec.MsgspecError) else InvalidRequestError()
                await self._reject(problem, _ref_of(text))
                continue
            await self._take(frame, tasks)

    async def _take(self, frame: frames.DeviceFrame, tasks: asyncio.TaskGroup) -> None:
        match frame:
            case frames.RequestFrame():
                await self._open_requests.acquire()
                tasks.create_task(self._request(frame))
            case frames.Ping():
                await self._outbox.put(_encode(frames.Pong(nonce=frame.nonce)))
            case frames.Pong():
                pass
            case _:
                await self._ask(frame)

    async def _ask(self, frame: frames.Ack | frames.Cancel | frames.HelloPage) -> None:
        try:
            match frame:
                case frames.Ack():
                    await self._acknowledge(frame.request_ids)
                case frames.Cancel():
                    await self._cancel(frame.request_id)
                case frames.HelloPage():
                    await self._hello(after=frame.after)
        except FieldpostError as error:
            await self._reject(error, None)

    async def _request(self, frame: frames.RequestFrame) -> None:
        try:
            accepted = await self._intake.accept(
                self.device,
                frame.body,
                channel=Channel.WEBSOCKET,
                idempotency_key=frame.body.idempotency_key or frame.ref,
            )
        except Exception as error:
            if not isinstance(error, FieldpostError):
                log.error("request_failed", device_id=self.device.device_id, exc_info=error)
            await self._reject(error, frame.ref)
        else:
            await self._outbox.put(_encode(frames.Accepted(ref=frame.ref, request_id=accepted.request_id)))
        finally:
            self._open_requests.release()

    async def _acknowledge(self, request_ids: Sequence[UUID]) -> None:
        if len(request_ids) > frames.MAX_ACK_IDS:
            raise InvalidRequestError(f"{frames.MAX_ACK_IDS} ids at most", errors=("request_ids",))
        acknowledged = await self._answers.acknowledge(self.device.device_id, request_ids)
        self.window.settle(acknowledged)
        await self._outbox.put(_encode(frames.Acked(request_ids=tuple(acknowledged))))
        if self.window.has_turned_away and not self.window.is_full:
            await self._catch_up()

    async def _cancel(self, request_id: UUID) -> None:
        status = await self._answers.cancel(self.device.device_id, request_id)
        state = RequestState.CANCELLED if status is None else status.status
        await self._outbox.put(_encode(frames.Cancelled(request_id=request_id, status=state)))

    async def _reject(self, error: Exception, ref: str | None) -> None:
        frame = frames.Rejected(problem=problem_of(error), ref=ref, retry_after_seconds=retry_after_seconds(error))
        await self._outbox.put(_encode(frame))

    # What the device is sent

    async def _write(self) -> None:
        while True:
            frame = await within(self._outbox.get(), self._settings.ping_seconds)
            if frame is None:
                frame = _encode(frames.Ping()).decode()
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._websocket.send_text(frame)
            except TimeoutError:
                raise SessionEndedError(CLOSE_SLOW, "too slow") from None

    async def _hello(self, *, after: str | None) -> None:
        cursor = None if after is None else read_cursor(after)
        limit = self._settings.page
        stored = await self._answers.undelivered(self.device.device_id, after=cursor, limit=limit + 1)
        page: list[StoredResponse] = []
        following: str | None = None
        for position, response in enumerate(stored):
            if position == limit or self.window.is_full:
                following = after if position == 0 else _cursor(stored[position - 1])
                break
            if self.window.admit(response.request_id):
                page.append(response)
        hello = frames.Hello(
            device_id=self.device.device_id,
            session=secrets.token_hex(8),
            responses=tuple(msgspec.Raw(response.body) for response in page),
            next=following,
            heartbeat_seconds=self._settings.ping_seconds,
        )
        await self._outbox.put(_encode(hello))

    async def _hear(self) -> None:
        while True:
            events = await self._listener.receive()
            if not events:
                await self._catch_up()
            for event in events:
                await self._tell(event)

    async def _tell(self, event: Event) -> None:
        match event:
            case ResponseReady(to_folder=False):
                await self._push_event(event)
            case ResponseChunk():
                frame = frames.ResponseChunkFrame(
                    request_id=event.request_id, attempt=event.attempt, index=event.index, text=event.text
                )
                await self._outbox.put_if_room(_encode(frame))
            case Acknowledged():
                self.window.settle(event.request_ids)
            case _:
                pass

    async def _push_event(self, event: ResponseReady) -> None:
        if event.body:
            await self.push(event.request_id, event.body)
            return
        try:
            status = await self._answers.status(self.device.device_id, event.request_id)
        except FieldpostError:
            # The sweep finds it when the ledger is back.
            return
        if status.response is not None:
            await self.push(event.request_id, bytes(msgspec.Raw(status.response)))

    async def _catch_up(self) -> None:
        """Sends what the ledger has and this session has not sent."""
        self.window.has_turned_away = False
        limit = self._settings.page + self.window.unacknowledged
        try:
            stored = await self._answers.undelivered(self.device.device_id, after=None, limit=limit)
        except FieldpostError as error:
            log.warning("catching_up_failed", device_id=self.device.device_id, error=repr(error))
            return
        for response in stored:
            await self.push(response.request_id, response.body)
        self.window.has_turned_away = self.window.has_turned_away or len(stored) == limit


def _cursor(response: StoredResponse) -> str:
    return write_cursor(response.completed_at, response.request_id)


def _ref_of(text: str) -> str | None:
    try:
        return msgspec.json.decode(text, type=_Ref).ref
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None


def _first(group: BaseExceptionGroup[SessionEndedError]) -> SessionEndedError:
    found = group.exceptions[0]
    return found if isinstance(found, SessionEndedError) else _first(found)
