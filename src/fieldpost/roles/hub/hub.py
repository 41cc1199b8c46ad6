"""The hub: sessions of connected devices. Every hub can serve every device; what it misses is in the ledger."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from uuid import UUID

from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError
from fieldpost.messages.devices import Credential
from fieldpost.observability import Metrics, get_logger
from fieldpost.ports.backends import Backends
from fieldpost.roles.hub.broadcasts import Broadcasts
from fieldpost.roles.hub.budget import Budget
from fieldpost.roles.hub.conversation import Conversation
from fieldpost.roles.hub.events import EventStream
from fieldpost.roles.hub.feed import Feed, Voice
from fieldpost.roles.hub.holding import Holdings
from fieldpost.roles.hub.limits import Limits
from fieldpost.roles.hub.outbox import Outbox
from fieldpost.roles.hub.reading import Reader
from fieldpost.roles.hub.session import CLOSE_REVOKED, Session
from fieldpost.roles.hub.sessions import Sessions
from fieldpost.roles.hub.window import Window
from fieldpost.roles.hub.wording import FrameVoice
from fieldpost.services.answers import Answers
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.settings import Settings
from fieldpost.web.problems import error_reply
from fieldpost.web.routing import routes_of

#: Devices in one query of a sweep, completions it brings, and how far it looks back: longer than a clock or a commit lags.
_SWEEP_DEVICES = 500
_SWEEP_LIMIT = 2000
_SWEEP_BACK = timedelta(seconds=30)
#: Revoked keys lose their sessions within this time.
_REVOKE_SECONDS = 1.0
#: Devices of a leaving hub come back spread over this time.
_RECONNECT_SECONDS = 5.0
_LOWEST_ID = UUID(int=0)

log = get_logger()


class Hub:
    """All sessions of this instance."""

    name = "hub"

    def __init__(
        self,
        *,
        settings: Settings,
        backends: Backends,
        clock: Clock,
        credentials: Credentials,
        intake: Intake,
        answers: Answers,
        mailbox: Mailbox,
        metrics: Metrics,
        source: random.Random,
        limits: Limits | None = None,
    ) -> None:
        self._settings = settings.hub
        self._limits = limits or Limits()
        self._backends = backends
        self._clock = clock
        self._credentials = credentials
        self._intake = intake
        self._answers = answers
        self._mailbox = mailbox
        self._source = source
        self._budget = Budget(max_bytes=self._settings.max_unsent_bytes, readers=self._limits.pages_in_hand)
        self._holdings = Holdings(
            max_bytes=self._limits.in_hand_bytes, max_bytes_per_device=self._limits.in_hand_bytes_per_device
        )
        self._sessions = Sessions(
            limit=self._settings.max_connections,
            limit_per_device=max(1, int(self._limits.device_share * self._settings.max_connections)),
            metrics=metrics,
        )
        self._metrics = metrics
        self._broadcasts = Broadcasts(bus=backends.shared.bus, mailbox=mailbox, sessions=self._sessions, clock=clock)

    def routes(self) -> list[BaseRoute]:
        """The WebSocket, and server-sent events on the same path."""
        events = EventStream(open_session=self._open_session).operation()
        return [WebSocketRoute(events.path, self._connect), *routes_of([events], self._credentials)]

    async def run(self) -> None:
        """Looks after the sessions until cancelled."""
        # Side by side: a ledger that answers slowly keeps no revoked key in force.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_at_keys())
            tasks.create_task(self._look_for_answers())
            tasks.create_task(self._broadcasts.run())

    async def _look_at_keys(self) -> None:
        while True:
            await self._clock.sleep(min(_REVOKE_SECONDS, self._settings.sweep_seconds))
            self._end_revoked()

    async def _look_for_answers(self) -> None:
        while True:
            await self._clock.sleep(self._settings.sweep_seconds)
            await self._sweep()

    async def drain(self) -> None:
        """Sends every device away, to come back at different times."""
        self._sessions.is_draining = True
        async with asyncio.TaskGroup() as tasks:
            for session in self._sessions:
                tasks.create_task(session.leave(self._source.uniform(0.5, _RECONNECT_SECONDS)))

    async def _connect(self, websocket: WebSocket) -> None:
        async with AsyncExitStack() as stack:
            try:
                device = await self._credentials.identify(websocket.headers.get("authorization"))
                session = await stack.enter_async_context(self._open_session(device, FrameVoice()))
            except FieldpostError as error:
                await _refuse(websocket, error)
                return
            await websocket.accept()
            reader = Reader(
                websocket=websocket,
                session=session,
                settings=self._settings,
                limits=self._limits,
                credentials=self._credentials,
                intake=self._intake,
                answers=self._answers,
                holding=self._holdings.of(device.device_id),
            )
            await Conversation(
                websocket=websocket, session=session, settings=self._settings, limits=self._limits, reader=reader
            ).run()

    @asynccontextmanager
    async def _open_session(self, device: Credential, voice: Voice) -> AsyncIterator[Session]:
        """A session that has its place while the context lasts; raises as `Sessions.place` does."""
        self._sessions.check(device.device_id)
        limits = self._limits
        outbox = Outbox(max_items=limits.outbox_frames, max_bytes=limits.outbox_bytes, budget=self._budget)
        async with self._mailbox.listen(device.device_id) as listener:
            feed = Feed(
                answers=self._answers,
                listener=listener,
                window=Window(limit=self._settings.max_unacknowledged),
                outbox=outbox,
                voice=voice,
                budget=self._budget,
                clock=self._clock,
                retry_seconds=self._settings.sweep_seconds,
                recheck_seconds=limits.recheck_seconds,
                metrics=self._metrics,
            )
            session = Session(device=device, feed=feed, farewell_seconds=limits.farewell_seconds)
            with outbox, self._sessions.place(session):
                yield session

    def _end_revoked(self) -> None:
        for session in self._sessions:
            if not self._credentials.is_current(session.device):
                session.end(CLOSE_REVOKED, str(self._credentials.refusal(session.device)))

    async def _sweep(self) -> None:
        """Finds answers that no event announced: one query per shard and some hundred devices, none per device."""
        by_shard: defaultdict[str, list[int]] = defaultdict(list)
        for device_id in self._sessions.device_ids:
            by_shard[self._backends.shards.shard_of(device_id)].append(device_id)
        for shard, device_ids in by_shard.items():
            for start in range(0, len(device_ids), _SWEEP_DEVICES):
                try:
                    await self._sweep_some(shard, device_ids[start : start + _SWEEP_DEVICES])
                except FieldpostError as error:
                    log.warning("sweep_failed", shard=shard, error=repr(error))

    async def _sweep_some(self, shard: str, device_ids: Sequence[int]) -> None:
        deliveries = self._backends.ledgers[shard].deliveries
        after = (self._clock.now() - _SWEEP_BACK, _LOWEST_ID)
        while True:
            completions = await deliveries.completed(device_ids, after=after, limit=_SWEEP_LIMIT)
            for completion in completions:
                for session in self._sessions.of(completion.device_id):
                    session.feed.hint(completion.request_id)
            if len(completions) < _SWEEP_LIMIT:
                return
            after = (completions[-1].completed_at, completions[-1].request_id)


async def _refuse(websocket: WebSocket, error: FieldpostError) -> None:
    reply = error_reply(error, instance=websocket.url.path)
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    await websocket.send_denial_response(
        Response(reply.body, status_code=reply.status, headers=headers, media_type=reply.content_type.decode())
    )
