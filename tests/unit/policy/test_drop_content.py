"""What dropped files say, by tables."""

import msgspec
import pytest

from fieldpost.errors import ConflictError, InvalidRequestError, RejectedError, UnsupportedMediaTypeError
from fieldpost.messages.requests import Envelope, Input, Priority
from fieldpost.policy.drop_content import DropKind, body_of, kind_of


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("a.pdf", UnsupportedMediaTypeError),
        ("a", UnsupportedMediaTypeError),
        ("txt", UnsupportedMediaTypeError),
        ("a.txt.exe", UnsupportedMediaTypeError),
        ("a.sync-conflict-20260102-030405-ABCDEFG.txt", ConflictError),
        ("caf\udce9.txt", InvalidRequestError),
    ],
)
def test_files_of_other_names_are_refused(name: str, error: type[RejectedError]) -> None:
    with pytest.raises(error):
        kind_of(name)


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        (b"Why?", "Why?"),
        (b"\xef\xbb\xbfWhy?", "Why?"),
        (" ¿Por qué?\r\n".encode(), " ¿Por qué?\r\n"),
        (b'{"input": {"prompt": "not an envelope here"}}', '{"input": {"prompt": "not an envelope here"}}'),
    ],
)
def test_a_prompt_is_the_text_as_it_is_without_a_byte_order_mark(content: bytes, prompt: str) -> None:
    assert Envelope(input=Input(prompt=prompt)) == body_of(DropKind.PROMPT, content)


@pytest.mark.parametrize(
    "content", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n", b"a\0b", b"caf\xe9", "Why?".encode("utf-16")]
)
def test_what_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        body_of(DropKind.PROMPT, content)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_an_envelope_is_a_request_as_posted(mark: bytes) -> None:
    content = b'{"input": {"prompt": "Why?"}, "priority": "high", "idempotency_key": "k"}'

    expected = Envelope(input=Input(prompt="Why?"), priority=Priority.HIGH, idempotency_key="k")
    assert expected == body_of(DropKind.ENVELOPE, mark + content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"input": {"prompt": ""}}',
        b'{"input": {"prompt": "x"}, "extra": 1}',
        b'{"input": {"prompt": "caf\xe9"}}',
        b"[" * 100_000,
        b'{"input": {"prompt": "x"}} trailing',
    ],
)
def test_what_is_no_request_is_refused(content: bytes) -> None:
    with pytest.raises((InvalidRequestError, msgspec.MsgspecError)):
        body_of(DropKind.ENVELOPE, content)
