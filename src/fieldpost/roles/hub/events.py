"""`GET /v1/stream` as server-sent events: for devices whose networks end WebSockets. Acknowledging goes over HTTP."""

from collections.abc import AsyncIterator

import msgspec

from fieldpost.errors import FieldpostError, NotAcceptableError
from fieldpost.messages.devices import Credential
from fieldpost.messages.events import Acknowledged, ResponseReady
from fieldpost.roles.hub.window import Window
from fieldpost.services.answers import Answers
from fieldpost.services.mailbox import Listener, Mailbox
from fieldpost.services.waiting import within
from fieldpost.settings import HubSettings
from fieldpost.web import sse
from fieldpost.web.operations import Call, Caller, Operation, Reply


class EventStream:
    """The operation; each call is a session of its own."""

    def __init__(self, *, settings: HubSettings, answers: Answers, mailbox: Mailbox) -> None:
        self._settings = settings
        self._answers = answers
        self._mailbox = mailbox

    def operation(self) -> Operation:
        """The one there is."""
        return Operation(
            method="GET",
            path="/v1/stream",
            summary="Listens for answers",
            handler=self._listen,
            caller=Caller.DEVICE,
            answers={200: ("`hello` and `response` events", None, "text/event-stream")},
            problems=(406, 503),
            waits=True,
            tag="responses",
        )

    async def _listen(self, call: Call) -> Reply:
        if "text/event-stream" not in (call.header(b"accept") or ""):
            raise NotAcceptableError("ask for a WebSocket, or for text/event-stream")
        return Reply(content_type=sse.CONTENT_TYPE, headers=sse.HEADERS, stream=self._events(call.device))

    async def _events(self, device: Credential) -> AsyncIterator[bytes]:
        window = Window(self._settings.max_unacknowledged)
        async with self._mailbox.listen(device.device_id) as listener:
            yield sse.event("hello", msgspec.json.encode({"device_id": device.device_id}))
            while not self._answers.is_draining:
                for event in await self._more(device, window):
                    yield event
                if not await self._until_something_happens(listener, window):
                    yield sse.KEEP_ALIVE

    async def _more(self, device: Credential, window: Window) -> list[bytes]:
        limit = self._settings.page + window.unacknowledged
        try:
            stored = await self._answers.undelivered(device.device_id, after=None, limit=limit)
        except FieldpostError:
            return []
        return [
            sse.event("response", response.body, id=str(response.request_id))
            for response in stored
            if window.admit(response.request_id)
        ]

    async def _until_something_happens(self, listener: Listener, window: Window) -> bool:
        """Waits for news; False when there was none for so long that a sign of life is due."""
        waited_seconds = 0.0
        while waited_seconds < sse.KEEP_ALIVE_SECONDS:
            events = await within(listener.receive(), self._settings.sweep_seconds)
            for event in events or ():
                if isinstance(event, Acknowledged):
                    window.settle(event.request_ids)
            if events is not None and (not events or any(isinstance(event, ResponseReady) for event in events)):
                return True
            if events is None:
                waited_seconds += self._settings.sweep_seconds
        return False
