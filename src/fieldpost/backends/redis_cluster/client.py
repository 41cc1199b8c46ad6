"""One connected client of Redis, a cluster's or a single server's: the vendor's words, and nothing that survives a failure.

Deliberately not here: finding out that it no longer works, and replacing it (link).
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import cast

import msgspec
from glide import (
    AdvancedGlideClientConfiguration,
    AdvancedGlideClusterClientConfiguration,
    AllPrimaries,
    Batch,
    BatchOptions,
    ClusterBatch,
    ClusterBatchOptions,
    GlideClient,
    GlideClientConfiguration,
    GlideClusterClient,
    GlideClusterClientConfiguration,
    GlideError,
    Logger,
    LogLevel,
    NodeAddress,
    PubSubMsg,
    RequestError,
    Script,
    ServerCredentials,
)

from fieldpost.backends.redis_cluster.address import Address
from fieldpost.errors import BackendUnavailableError

#: The longest that one call waits for its answer.
CALL_SECONDS = 0.5
#: A call's first connection is not counted in CALL_SECONDS by the client: this bounds the two.
_GUARD_SECONDS = 0.75
_CONNECT_SECONDS = 0.3
_IN_FLIGHT = 20_000

Heard = Callable[[str, bytes], None]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a client sees of its engine."""

    #: The connection to each node that owns keys; another one stands here after a reconnect.
    connections: frozenset[str]
    #: Channels the engine has this client down for.
    subscriptions: int
    #: Whether every node that owns keys has answered.
    is_complete: bool


class Client:
    """Every call raises BackendUnavailableError when it is not answered within CALL_SECONDS or so."""

    def __init__(self, client: GlideClusterClient | GlideClient) -> None:
        self._client = client

    @classmethod
    async def open(cls, address: Address, *, name: str, heard: Heard) -> "Client":
        """A client that connects with its first call: the vendor's connecting would block the event loop.

        Args:
            name: what the engine lists it as.
            heard: called with channel and message, on the event loop.
        """
        # It would write to the process's output in a format of its own; the link logs what matters.
        Logger.init(LogLevel.OFF)
        async with _Guard():
            if address.is_cluster:
                return cls(await GlideClusterClient.create(_cluster_configuration(address, name, heard)))
            return cls(await GlideClient.create(_single_configuration(address, name, heard)))

    async def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        async with _Guard():
            return await self._client.get(key)

    async def put(self, values: Sequence[tuple[bytes, bytes]], *, ttl_seconds: float) -> None:
        """Sets keys that vanish after a while."""
        ttl = str(max(1, round(ttl_seconds * 1000))).encode()
        await self._all([[b"SET", key, value, b"PX", ttl] for key, value in values])

    async def publish(self, messages: Sequence[tuple[bytes, bytes]]) -> None:
        """Sends messages to channels, in this order for each channel; raises if any of them did not arrive."""
        command = b"SPUBLISH" if isinstance(self._client, GlideClusterClient) else b"PUBLISH"
        await self._all([[command, channel, message] for channel, message in messages])

    async def run(self, script: Script, key: bytes, arguments: Sequence[bytes]) -> object:
        """Runs a script over one key."""
        async with _Guard():
            return await self._client.invoke_script(script, keys=[key], args=list(arguments))

    async def subscribe(self, channels: Collection[str]) -> None:
        """Returns when the engine has confirmed."""
        async with _Guard():
            if isinstance(self._client, GlideClusterClient):
                await self._client.ssubscribe(set(channels), timeout_ms=round(CALL_SECONDS * 1000))
            else:
                await self._client.subscribe(set(channels), timeout_ms=round(CALL_SECONDS * 1000))

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """Returns when the engine has confirmed."""
        async with _Guard():
            if isinstance(self._client, GlideClusterClient):
                await self._client.sunsubscribe(set(channels), timeout_ms=round(CALL_SECONDS * 1000))
            else:
                await self._client.unsubscribe(set(channels), timeout_ms=round(CALL_SECONDS * 1000))

    async def look(self) -> Look:
        """Asks every node that owns keys for this client's connection there."""
        async with _Guard():
            if isinstance(self._client, GlideClusterClient):
                infos, nodes = await asyncio.gather(
                    self._client.custom_command([b"CLIENT", b"INFO"], AllPrimaries()),
                    self._client.custom_command([b"CLUSTER", b"NODES"]),
                )
                answers = cast("dict[bytes, bytes]", infos) if isinstance(infos, dict) else {b"": cast("bytes", infos)}
                return _look(list(answers.values()), owners=_owners(cast("bytes", nodes).decode()))
            return _look([cast("bytes", await self._client.custom_command([b"CLIENT", b"INFO"]))], owners=1)

    async def close(self) -> None:
        """Ends it; calls in flight fail."""
        await self._client.close()

    async def _all(self, commands: Sequence[list[bytes]]) -> None:
        """One round trip to each node; the rest is done when one of them fails."""
        timeout = round(CALL_SECONDS * 1000)
        async with _Guard():
            if isinstance(self._client, GlideClusterClient):
                cluster_batch = ClusterBatch(is_atomic=False)
                for command in commands:
                    cluster_batch.custom_command(list(command))
                results = await self._client.exec(cluster_batch, False, ClusterBatchOptions(timeout=timeout))
            else:
                batch = Batch(is_atomic=False)
                for command in commands:
                    batch.custom_command(list(command))
                results = await self._client.exec(batch, False, BatchOptions(timeout=timeout))
        failure = next((result for result in results or () if isinstance(result, RequestError)), None)
        if failure is not None:
            raise BackendUnavailableError(f"Redis: {failure}")


class _Guard:
    """Bounds a call, and lets no vendor exception out."""

    def __init__(self) -> None:
        self._timeout = asyncio.timeout(_GUARD_SECONDS)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._timeout.__aexit__(kind, error, None)
        except TimeoutError:
            raise BackendUnavailableError("Redis does not answer") from None
        if isinstance(error, GlideError):
            raise BackendUnavailableError(f"Redis: {error}") from error


def _look(infos: Sequence[bytes], *, owners: int) -> Look:
    fields = [dict(word.partition("=")[::2] for word in info.decode().split()) for info in infos]
    return Look(
        connections=frozenset(f"{field['laddr']} {field['addr']} {field['id']}" for field in fields),
        # Redis 7.0.0 to 7.0.2 say nothing of sharded channels; 7.0.3 does.
        subscriptions=sum(int(field["sub"]) + int(field.get("ssub", 0)) for field in fields),
        is_complete=len(infos) >= owners,
    )


def _owners(nodes: str) -> int:
    """Masters with slots, the dead ones too until they are replaced. Source: the reference of CLUSTER NODES."""
    lines = [line.split() for line in nodes.splitlines()]
    return sum("master" in words[2].split(",") and len(words) > 8 for words in lines if len(words) > 2)


def _credentials(address: Address) -> ServerCredentials | None:
    return ServerCredentials(address.password, address.user or None) if address.password else None


def _cluster_configuration(address: Address, name: str, heard: Heard) -> GlideClusterClientConfiguration:
    return GlideClusterClientConfiguration(
        addresses=[NodeAddress(host, port) for host, port in address.nodes],
        use_tls=address.is_encrypted,
        credentials=_credentials(address),
        client_name=name,
        request_timeout=round(CALL_SECONDS * 1000),
        inflight_requests_limit=_IN_FLIGHT,
        # What fails, fails at once: who asks has something better to do.
        recovery_requests_queue_size=0,
        lazy_connect=True,
        pubsub_subscriptions=GlideClusterClientConfiguration.PubSubSubscriptions(
            channels_and_patterns={}, callback=_hear, context=heard
        ),
        advanced_config=AdvancedGlideClusterClientConfiguration(connection_timeout=round(_CONNECT_SECONDS * 1000)),
    )


def _single_configuration(address: Address, name: str, heard: Heard) -> GlideClientConfiguration:
    return GlideClientConfiguration(
        addresses=[NodeAddress(host, port) for host, port in address.nodes],
        use_tls=address.is_encrypted,
        credentials=_credentials(address),
        client_name=name,
        request_timeout=round(CALL_SECONDS * 1000),
        inflight_requests_limit=_IN_FLIGHT,
        lazy_connect=True,
        pubsub_subscriptions=GlideClientConfiguration.PubSubSubscriptions(
            channels_and_patterns={}, callback=_hear, context=heard
        ),
        advanced_config=AdvancedGlideClientConfiguration(connection_timeout=round(_CONNECT_SECONDS * 1000)),
    )


def _hear(message: PubSubMsg, heard: Heard) -> None:
    channel, body = message.channel, message.message
    heard(channel.decode() if isinstance(channel, bytes) else channel, body.encode() if isinstance(body, str) else body)
