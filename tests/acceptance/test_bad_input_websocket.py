"""What devices may send wrong over the WebSocket: it is answered, or ends that one connection, and harms nobody else."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.server import Server, running_server
from tests.support.sockets import connected


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"}
    with running_server(tmp_path_factory.mktemp("server") / "data", settings=settings) as running:
        yield running


@pytest.fixture
def key(server: Server) -> str:
    return server.add_device()[1]


async def _still_works(server: Server, key: str) -> None:
    async with connected(server.url, key) as peer:
        await peer.ask("still there?")
        assert "still there?" == (await peer.hear("ResponseReady"))["response"]["output"]["text"]


REJECTED: list[tuple[str, str, str | None]] = [
    ("", "malformed-request", None),
    ("{", "malformed-request", None),
    ("nonsense", "malformed-request", None),
    ('{"skipped":' + "[" * 20_000, "malformed-request", None),
    ("[]", "invalid-request", None),
    ("null", "invalid-request", None),
    ("{}", "invalid-request", None),
    ('{"type":"Unheard"}', "invalid-request", None),
    ('{"type":7}', "invalid-request", None),
    ('{"type":"Hello"}', "invalid-request", None),
    ('{"type":"Hello","after":"no cursor"}', "invalid-request", None),
    ('{"type":"Hello","after":"' + "A" * 32 + '","more":1}', "invalid-request", None),
    ('{"type":"Request","ref":"a"}', "invalid-request", "a"),
    ('{"type":"Request","ref":"","body":{"input":{"prompt":"p"}}}', "invalid-request", ""),
    ('{"type":"Request","ref":"b","body":{"input":{}}}', "invalid-request", "b"),
    ('{"type":"Request","ref":"c","body":{"input":{"prompt":""}}}', "invalid-request", "c"),
    ('{"type":"Request","ref":"d","body":{"input":{"prompt":"p"},"surprise":1}}', "invalid-request", "d"),
    ('{"type":"Request","ref":"e","body":{"input":{"prompt":"p"},"model":"none"}}', "unknown-model", "e"),
    ('{"type":"Request","ref":"f","body":{"input":{"prompt":"p"},"deadline_seconds":0}}', "invalid-request", "f"),
    ('{"type":"Ack","request_ids":"all"}', "invalid-request", None),
    ('{"type":"Ack","request_ids":["1"]}', "invalid-request", None),
    (
        json.dumps({"type": "Ack", "request_ids": ["01a20e63-66c3-7d29-857c-57c2fa8f631f"] * 1001}),
        "invalid-request",
        None,
    ),
    ('{"type":"Cancel"}', "invalid-request", None),
    ('{"type":"Ping","nonce":1}', "invalid-request", None),
    ('{"type":"Accepted","ref":"a","request_id":"01a20e63-66c3-7d29-857c-57c2fa8f631f"}', "invalid-request", "a"),
]


@pytest.mark.parametrize(("text", "slug", "ref"), REJECTED, ids=[text[:48] for text, _, _ in REJECTED])
async def test_a_frame_that_makes_no_sense_is_rejected_and_the_connection_stays(
    server: Server, key: str, text: str, slug: str, ref: str | None
) -> None:
    async with connected(server.url, key) as peer:
        await peer.hear("Hello")
        await peer.socket.send(text)
        rejected = await peer.hear("Rejected")
        await peer.say("Ping", nonce="still here")
        pong = await peer.hear("Pong")

    assert f"urn:fieldpost:problem:{slug}" == rejected["problem"]["type"]
    assert ref == rejected.get("ref")
    assert rejected["problem"]["title"]
    assert "still here" == pong["nonce"]


@pytest.mark.parametrize(
    ("message", "code"), [(b"\x00\x01", 1003), ("x" * (2**20 + 1), 1009)], ids=["binary", "larger than 1 MiB"]
)
async def test_a_message_of_the_wrong_make_closes_that_connection_only(
    server: Server, key: str, message: str | bytes, code: int
) -> None:
    async with connected(server.url, key) as peer, connected(server.url, key) as other:
        await peer.hear("Hello")
        await peer.socket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            await peer.hear("nothing")
        await other.ask("and you?")

    assert closed.value.rcvd is not None
    assert code == closed.value.rcvd.code


async def test_a_large_message_in_fragments_is_one_message(server: Server, key: str) -> None:
    text = json.dumps({"type": "Request", "ref": "long", "body": {"input": {"prompt": "p" * 200_000}}})

    async with connected(server.url, key, max_size=2**22) as peer:
        await peer.socket.send(text[start : start + 1000] for start in range(0, len(text), 1000))
        accepted = await peer.hear("Accepted", "Rejected")

    assert ("Accepted", "long") == (accepted["type"], accepted["ref"])


# Against the protocol itself: raw sockets, RFC 6455


class Raw:
    """A connection that may say anything."""

    def __init__(self, server: Server, key: str, **headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        lines = {
            "Host": "fieldpost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
            "Authorization": f"Bearer {key}",
            **headers,
        }
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(f"GET /v1/stream HTTP/1.1\r\n{head}\r\n".encode())
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._more()
        self.head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")

    def send(self, opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, rsv: int = 0) -> None:
        first = (0x80 if fin else 0) | (rsv << 4) | opcode
        flag = 0x80 if masked else 0
        size = len(payload)
        length = bytes([flag | size]) if size < 126 else bytes([flag | 126]) + struct.pack("!H", size)
        mask = os.urandom(4) if masked else b""
        body = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload)) if masked else payload
        self.socket.sendall(bytes([first]) + length + mask + body)

    def close_code(self) -> int | None:
        """Reads until the server's close frame, or the end."""
        while True:
            opcode, payload = self._frame()
            if opcode == 8:
                return int(struct.unpack("!H", payload[:2])[0]) if payload else 1005
            if opcode is None:
                return None

    def text(self) -> dict[str, Any]:
        """The next text frame."""
        while True:
            opcode, payload = self._frame()
            assert opcode is not None, "closed"
            if opcode == 1:
                decoded: dict[str, Any] = json.loads(payload)
                return decoded

    def _frame(self) -> tuple[int | None, bytes]:
        head = self._exactly(2)
        if len(head) < 2:
            return None, b""
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._exactly(8))
        return head[0] & 0x0F, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            piece = self._more()
            if not piece:
                return b""
            self._buffer += piece
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _more(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            return b""


@pytest.fixture
def raw(server: Server, key: str) -> Iterator[Raw]:
    made = Raw(server, key)
    assert made.head.startswith(b"HTTP/1.1 101 ")
    with made.socket:
        yield made


AGAINST_THE_PROTOCOL: list[tuple[str, list[dict[str, Any]], int]] = [
    ("an unmasked frame", [{"opcode": 1, "payload": b"{}", "masked": False}], 1002),
    ("a reserved opcode", [{"opcode": 3, "payload": b""}], 1002),
    ("a reserved control opcode", [{"opcode": 11, "payload": b""}], 1002),
    ("a reserved bit", [{"opcode": 1, "payload": b"{}", "rsv": 4}], 1002),
    ("a fragmented ping", [{"opcode": 9, "payload": b"", "fin": False}], 1002),
    ("a ping over 125 bytes", [{"opcode": 9, "payload": b"x" * 126}], 1002),
    ("a continuation of nothing", [{"opcode": 0, "payload": b"{}"}], 1002),
    (
        "a new message inside another",
        [{"opcode": 1, "payload": b"{", "fin": False}, {"opcode": 1, "payload": b"}"}],
        1002,
    ),
    ("text that is not UTF-8", [{"opcode": 1, "payload": b"\xff\xfe"}], 1007),
    ("a close frame of one byte", [{"opcode": 8, "payload": b"\x03"}], 1002),
    ("a close code that is not one", [{"opcode": 8, "payload": struct.pack("!H", 999)}], 1002),
]


@pytest.mark.parametrize(
    ("frames", "code"),
    [(frames, code) for _, frames, code in AGAINST_THE_PROTOCOL],
    ids=[name for name, _, _ in AGAINST_THE_PROTOCOL],
)
async def test_frames_against_the_protocol_end_the_connection(
    server: Server, key: str, raw: Raw, frames: list[dict[str, Any]], code: int
) -> None:
    assert "Hello" == raw.text()["type"]

    for frame in frames:
        raw.send(**frame)

    assert code == raw.close_code()
    await _still_works(server, key)


def test_a_message_that_never_ends_is_cut_off_at_the_bound(raw: Raw) -> None:
    raw.send(1, b"x" * 65_000, fin=False)
    for _ in range(20):
        try:
            raw.send(0, b"x" * 65_000, fin=False)
        except (BrokenPipeError, ConnectionResetError):
            break

    assert raw.close_code() in (1009, None)


def test_a_ping_between_fragments_is_answered_at_once(raw: Raw) -> None:
    raw.text()
    raw.send(1, b'{"type":"Pi', fin=False)
    raw.send(9, b"are you there?")
    pong = raw._frame()
    raw.send(0, b'ng","nonce":"n"}')

    assert (10, b"are you there?") == pong
    assert {"type": "Pong", "nonce": "n"} == raw.text()


def test_compression_is_not_agreed_to(server: Server, key: str) -> None:
    asking = Raw(server, key, Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
    with asking.socket:
        assert asking.head.startswith(b"HTTP/1.1 101 ")
        assert b"permessage-deflate" not in asking.head.lower()


@pytest.mark.parametrize(
    "headers",
    [{"Sec_WebSocket_Version": "12"}, {"Sec_WebSocket_Key": "short"}, {"Connection": "close"}],
    ids=["another version", "a bad key", "no upgrade"],
)
async def test_a_handshake_against_the_protocol_is_refused(server: Server, key: str, headers: dict[str, str]) -> None:
    refused = Raw(server, key, **headers)
    with refused.socket:
        assert refused.head.startswith(b"HTTP/1.1 4")
    await _still_works(server, key)


async def test_a_device_that_vanishes_without_a_word_leaves_nothing_behind(
    server: Server, key: str, tmp_path: Path
) -> None:
    for _ in range(20):
        gone = Raw(server, key)
        gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.socket.close()

    await _still_works(server, key)
    assert "Traceback" not in server.log()
