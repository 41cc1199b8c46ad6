"""Engines reached over TLS: only those are spoken to whose certificate is by an authority that is trusted.

Which one that is says `SSL_CERT_FILE`, for every engine; a database's URL may name one of its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from fieldpost.backends.postgresql import opening
from fieldpost.backends.rabbitmq.opening import open_broker
from fieldpost.clock import SystemClock
from fieldpost.cluster import readiness
from fieldpost.cluster.child import Child, Program
from fieldpost.cluster.readiness import until_ready
from fieldpost.errors import BackendUnavailableError, ConfigError
from tests.support import certificates
from tests.support.certificates import Certificates
from tests.support.engines import READY_SECONDS, Engines, PostgreSQL, RabbitMQ
from tests.support.waiting import eventually

_REFUSED = "certificate verify failed"


@pytest.fixture(scope="module")
def shown(engine_place: Engines) -> Certificates:
    """What the engines show."""
    return certificates.make(engine_place.directory / "tls", engine_place.user)


@pytest.fixture(scope="module")
def foreign(engine_place: Engines) -> Certificates:
    """By another authority."""
    return certificates.make(engine_place.directory / "tls-foreign", engine_place.user)


@pytest.fixture(scope="module")
def broker_url(engine_place: Engines, rabbitmq: RabbitMQ, shown: Certificates) -> str:
    """The broker of all tests listens on one more port."""
    port = engine_place.ports(1)[0]
    options = f'[{{certfile,"{shown.certificate}"}},{{keyfile,"{shown.key}"}}]'
    rabbitmq.control("eval", f'rabbit_networking:start_ssl_listener({{"127.0.0.1",{port},inet}},{options},1).')
    host = rabbitmq.empty_url().partition("@")[2]
    return f"amqps://guest:guest@127.0.0.1:{port}/{host.partition('/')[2]}"


async def test_a_broker_whose_authority_is_trusted_is_used(
    broker_url: str, shown: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(shown.authority))

    async with open_broker(broker_url, clock=SystemClock(), instance="test") as broker:
        await broker.declare("q", max_messages=10)
        await broker.publish("q", [b"a message"])

        await eventually(lambda: _waits(broker))


async def _waits(broker: Any) -> bool:
    return bool(await broker.depth("q") == 1)


async def test_a_broker_by_another_authority_is_refused(
    broker_url: str, foreign: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(foreign.authority))

    with capture_logs() as logs:
        async with open_broker(broker_url, clock=SystemClock(), instance="test") as broker:
            with pytest.raises(BackendUnavailableError):
                await broker.declare("q", max_messages=10)

    assert _says(logs, event="broker_connection_lost")


def _says(logs: list[MutableMapping[str, Any]], *, event: str) -> bool:
    return any(line["event"] == event and _REFUSED in line["reason"] for line in logs)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A Redis that speaks nothing but TLS, and is a cluster of its own."""

    port: int

    def command(self, shown: Certificates, *words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), "--tls", "--cacert", str(shown.authority), *words],
            capture_output=True, text=True, timeout=READY_SECONDS, check=True,
        )  # fmt: skip
        return done.stdout


@pytest.fixture(scope="module")
def redis_node(engine_place: Engines, shown: Certificates) -> Iterator[Node]:
    port, bus_port = engine_place.ports(2)
    program = Program(
        name=f"redis-tls-{port}",
        command=[
            "redis-server", "--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port), "--save", "",
            "--cluster-enabled", "yes", "--cluster-port", str(bus_port), "--tls-cluster", "yes",
            "--cluster-config-file", f"tls-{port}.conf", "--tls-auth-clients", "no",
            "--tls-cert-file", str(shown.certificate), "--tls-key-file", str(shown.key),
            "--tls-ca-cert-file", str(shown.authority),
        ],
        directory=engine_place.directory,
    )  # fmt: skip
    child: Child = engine_place.run(engine_place.start(program))

    async def is_listening() -> bool:
        # What it makes of a call that is not TLS.
        return await readiness.answers("127.0.0.1", port, b"PING\r\n" * 10, b"")

    engine_place.run(
        until_ready(program.name, is_listening, clock=engine_place.clock, seconds=READY_SECONDS, children=(child,))
    )
    node = Node(port=port)
    node.command(shown, "cluster", "addslotsrange", "0", "16383")
    yield node
    engine_place.run(child.kill())


#: The client reads once for the whole process whom it trusts, so every case has a process of its own.
_USE_REDIS = """
import asyncio, sys
from fieldpost.backends.redis_cluster.opening import open_shared
from fieldpost.clock import SystemClock

async def use(url, is_trusted):
    async with open_shared(url, clock=SystemClock(), instance="test") as shared:
        while is_trusted and await shared.values.get("a") is None:
            await shared.values.put([("a", b"a value")], ttl_seconds=60)
        print(await shared.values.get("a"))

asyncio.run(use(sys.argv[1], sys.argv[2] == "trusted"))
"""


def _use_redis(url: str, authority: Certificates, how: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _USE_REDIS, url, how],
        capture_output=True, text=True, timeout=READY_SECONDS, check=False,
        env={**os.environ, "SSL_CERT_FILE": str(authority.authority)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("scheme", ["rediss", "rediss-cluster"])
def test_a_redis_whose_authority_is_trusted_is_used(redis_node: Node, shown: Certificates, scheme: str) -> None:
    assert "b'a value'" in _use_redis(f"{scheme}://127.0.0.1:{redis_node.port}", shown, "trusted")


@pytest.mark.parametrize("scheme", ["rediss", "rediss-cluster"])
def test_a_redis_by_another_authority_is_refused(redis_node: Node, foreign: Certificates, scheme: str) -> None:
    said = _use_redis(f"{scheme}://127.0.0.1:{redis_node.port}", foreign, "foreign")

    assert "shared.state" in said
    assert _REFUSED in said
    assert "None" in said


@pytest.fixture(scope="module")
def database_url(postgresql: PostgreSQL, shown: Certificates) -> Iterator[str]:
    """The server of all tests takes TLS too meanwhile."""
    postgresql.execute(f"ALTER SYSTEM SET ssl_cert_file = '{shown.certificate}'")
    postgresql.execute(f"ALTER SYSTEM SET ssl_key_file = '{shown.key}'")
    postgresql.execute("ALTER SYSTEM SET ssl = on")
    postgresql.execute("SELECT pg_reload_conf()")
    url = postgresql.make_database()
    yield url
    for name in ("ssl", "ssl_cert_file", "ssl_key_file"):
        postgresql.execute(f"ALTER SYSTEM RESET {name}")
    postgresql.execute("SELECT pg_reload_conf()")
    postgresql.drop_database(url)


async def _tables(url: str) -> bool:
    """Whether they are there: asked over a connection as the URL wants it."""
    return await opening.revision(url) is not None


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
async def test_a_database_whose_authority_is_trusted_is_used(
    database_url: str, shown: Certificates, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    # The server reads its new settings soon, not at once.
    await eventually(lambda: _is_there(f"{database_url}?sslmode={mode}&sslrootcert={shown.authority}"))
    monkeypatch.setenv("SSL_CERT_FILE", str(shown.authority))
    assert await _tables(f"{database_url}?sslmode={mode}")


async def _is_there(url: str) -> bool:
    try:
        return await _tables(url)
    except BackendUnavailableError:
        return False


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
async def test_a_database_by_another_authority_is_refused(
    database_url: str, shown: Certificates, foreign: Certificates, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    await eventually(lambda: _is_there(f"{database_url}?sslmode={mode}&sslrootcert={shown.authority}"))
    with pytest.raises(BackendUnavailableError, match=_REFUSED):
        await _tables(f"{database_url}?sslmode={mode}&sslrootcert={foreign.authority}")
    monkeypatch.setenv("SSL_CERT_FILE", str(foreign.authority))
    with pytest.raises(BackendUnavailableError, match=_REFUSED):
        await _tables(f"{database_url}?sslmode={mode}")


async def test_a_name_that_the_certificate_does_not_have_is_refused_in_full_only(
    database_url: str, shown: Certificates
) -> None:
    elsewhere = database_url.replace("127.0.0.1", "localhost") + f"?sslrootcert={shown.authority}&sslmode="
    await eventually(lambda: _is_there(elsewhere + "verify-ca"))

    with pytest.raises(BackendUnavailableError, match=_REFUSED):
        await _tables(elsewhere + "verify-full")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("sslmode=verify-most", "sslmode=verify-most"),
        ("sslmode=require&sslrootcert=/ca.pem", "does not look at"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "/nowhere/ca.pem"),
    ],
)
async def test_what_a_url_says_of_tls_in_error_is_told_at_the_start(query: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        await opening.revision(f"postgresql://u@127.0.0.1:1/d?{query}")

    assert told in refused.value.detail


async def test_a_connection_may_be_encrypted_without_looking_whose_it_is(database_url: str) -> None:
    await eventually(lambda: _is_there(f"{database_url}?sslmode=require"))
