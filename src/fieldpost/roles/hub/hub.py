"""The hub: sessions of connected devices. Every hub can serve every device; what it misses is in the ledger."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from fieldpost.clock import Clock
from fieldpost.errors import DrainingError, FieldpostError, OverloadedError
from fieldpost.messages.devices import Credential
from fieldpost.observability import Metrics, get_logger
from fieldpost.ports.backends import Backends
from fieldpost.roles.hub.events import EventStream
from fieldpost.roles.hub.session import CLOSE_REVOKED, Session
from fieldpost.services.answers import Answers
from fieldpost.services.credentials import Credentials
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.settings import Settings
from fieldpost.web.endpoint import Endpoint
from fieldpost.web.problems import error_reply

#: Devices in one query of a sweep, and answers it brings at most.
_SWEEP_DEVICES = 500
_SWEEP_LIMIT = 1000
#: Answers younger than this may still be on the bus.
_SWEEP_AGE = timedelta(seconds=1)
#: Revoked keys lose their sessions within this time.
_REVOKE_SECONDS = 1.0
#: Devices of a leaving hub come back spread over this time.
_RECONNECT_SECONDS = 5.0

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
    ) -> None:
        self._settings = settings.hub
        self._backends = backends
        self._clock = clock
        self._credentials = credentials
        self._intake = intake
        self._answers = answers
        self._mailbox = mailbox
        self._metrics = metrics
        self._source = source
        self._sessions: defaultdict[int, set[Session]] = defaultdict(set)
        self._connections = 0
        self._is_draining = False

    def routes(self) -> list[BaseRoute]:
        """The WebSocket, and server-sent events on the same path."""
        events = EventStream(settings=self._settings, answers=self._answers, mailbox=self._mailbox).operation()
        return [
            WebSocketRoute("/v1/stream", self._connect),
            Route("/v1/stream", Endpoint(events, self._credentials), methods=["GET"]),
        ]

    async def run(self) -> None:
        """Looks after the sessions until cancelled."""
        next_sweep = 0.0
        while True:
            await self._clock.sleep(min(_REVOKE_SECONDS, self._settings.sweep_seconds))
            self._end_revoked()
            if self._clock.monotonic() >= next_sweep:
                await self._sweep()
                next_sweep = self._clock.monotonic() + self._settings.sweep_seconds

    async def drain(self) -> None:
        """Sends every device away, to come back at different times."""
        self._is_draining = True
        async with asyncio.TaskGroup() as tasks:
            for session in self._all_sessions():
                tasks.create_task(session.leave(self._source.uniform(0.5, _RECONNECT_SECONDS)))

    async def _connect(self, websocket: WebSocket) -> None:
        try:
            device = self._credentials.authenticate(websocket.headers.get("authorization"))
            self._check_room()
        except FieldpostError as error:
            reply = error_reply(error, instance=websocket.url.path)
            headers = {name.decode(): value.decode() for name, value in reply.headers}
            media_type = reply.content_type.decode()
            await websocket.send_denial_response(
                Response(reply.body, status_code=reply.status, headers=headers, media_type=media_type)
            )
            return
        self._connections += 1
        self._metrics.sessions.inc()
        try:
            await self._serve(websocket, device)
        finally:
            self._connections -= 1
            self._metrics.sessions.dec()

    async def _serve(self, websocket: WebSocket, device: Credential) -> None:
        await websocket.accept()
        async with self._mailbox.listen(device.device_id) as listener:
            session = Session(
                websocket=websocket,
                device=device,
                settings=self._settings,
                intake=self._intake,
                answers=self._answers,
                listener=listener,
            )
            self._sessions[device.device_id].add(session)
            try:
                await session.run()
            except* Exception:
                log.exception("session_failed", device_id=device.device_id)
            finally:
                self._sessions[device.device_id].discard(session)
                if not self._sessions[device.device_id]:
                    del self._sessions[device.device_id]

    def _check_room(self) -> None:
        if self._is_draining:
            raise DrainingError(retry_after_seconds=_RECONNECT_SECONDS)
        if self._connections >= self._settings.max_connections:
            raise OverloadedError(f"{self._connections} sessions", retry_after_seconds=_RECONNECT_SECONDS)

    def _end_revoked(self) -> None:
        for session in self._all_sessions():
            current = self._credentials.of(session.device.device_id)
            if current is None or current.disabled or current.key_hash != session.device.key_hash:
                session.end(CLOSE_REVOKED, "the key is no longer valid")

    async def _sweep(self) -> None:
        """Finds answers that no event announced: one query per shard and some hundred devices."""
        by_shard: defaultdict[str, list[int]] = defaultdict(list)
        for device_id, sessions in self._sessions.items():
            if not all(session.window.is_full for session in sessions):
                by_shard[self._backends.shards.shard_of(device_id)].append(device_id)
        for shard, device_ids in by_shard.items():
            for start in range(0, len(device_ids), _SWEEP_DEVICES):
                await self._sweep_some(shard, device_ids[start : start + _SWEEP_DEVICES])

    async def _sweep_some(self, shard: str, device_ids: Sequence[int]) -> None:
        deliveries = self._backends.ledgers[shard].deliveries
        try:
            stored = await deliveries.undelivered(device_ids, after=None, limit=_SWEEP_LIMIT)
        except FieldpostError as error:
            log.warning("sweep_failed", shard=shard, error=repr(error))
            return
        newest = self._clock.now() - _SWEEP_AGE
        for response in stored:
            if response.completed_at <= newest:
                for session in tuple(self._sessions.get(response.device_id, ())):
                    await session.push(response.request_id, response.body)

    def _all_sessions(self) -> list[Session]:
        return [session for sessions in self._sessions.values() for session in sessions]
