from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from fieldpost.errors import InvalidRequestError
from fieldpost.messages.chat import ChatRequest
from fieldpost.messages.devices import DeviceChange, NewDevice
from fieldpost.messages.frames import DeviceFrame
from fieldpost.messages.requests import Envelope, RequestBody
from fieldpost.messages.texts import in_words
from fieldpost.policy.drop_content import DropKind, body_of
from fieldpost.settings import Settings
from fieldpost.web.problems import invalid_body

_BLANK_OR_NUL = [" ", "\n\t\r ", "\u2003", "a\0b", "\0", "a\0"]
_TEXTS = ["x", " x ", "two\nlines\n", "\ttab", "é 🚚", "\x1b[0m", "\ufeffx"]


@pytest.mark.parametrize("text", _BLANK_OR_NUL)
def test_what_asks_nothing_or_holds_a_nul_passes_no_door(text: str) -> None:
    message = {"role": "user", "content": text}
    part = {"role": "user", "content": [{"type": "text", "text": text}]}
    refusal = {"role": "assistant", "refusal": text}
    refused: list[tuple[object, object]] = [
        (RequestBody, {"input": {"prompt": text}}),
        (RequestBody, {"input": {"messages": [message]}}),
        (ChatRequest, {"model": "m", "messages": [message]}),
        (ChatRequest, {"model": "m", "messages": [part]}),
        (ChatRequest, {"model": "m", "messages": [refusal]}),
        (DeviceFrame, {"type": "Request", "ref": "a", "body": {"input": {"prompt": text}}}),
    ]

    for kind, body in refused:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(body, kind)
    with pytest.raises(InvalidRequestError):
        body_of(DropKind.PROMPT, text.encode())


@pytest.mark.parametrize("text", _TEXTS)
def test_every_other_text_passes_all_doors_unchanged(text: str) -> None:
    body = msgspec.convert({"input": {"prompt": text}}, RequestBody)
    dropped = body_of(DropKind.PROMPT, b"\xef\xbb\xbf" + text.encode())

    assert body.input.prompt == dropped.input.prompt == text


@pytest.mark.parametrize("member", ["kind", "model", "idempotency_key"])
def test_no_member_of_a_request_holds_a_nul(member: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"input": {"prompt": "x"}, member: "a\0b"}, RequestBody)


@pytest.mark.parametrize("name", ["a\nb", "a\n", "\n", " ", "a\tb", "a\0", "\x1b[31mred", "a\x85b", "a\u2028b"])
def test_a_devices_name_stands_on_one_line(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "truck", "name": name}, NewDevice)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": name}, DeviceChange)


@pytest.mark.parametrize("name", ["Truck 17", " x", "Überseehafen, Tor 3", "卡车", "🚚"])
def test_a_devices_name_may_be_anything_else(name: str) -> None:
    assert msgspec.convert({"kind": "truck", "name": name}, NewDevice).name == name


def test_what_is_wrong_with_a_text_is_said_in_words() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"input": {"prompt": " "}}, RequestBody)

    error = invalid_body(caught.value)

    assert error.detail == (
        "Expected `str` that is not only white space, and without NUL characters - at `$.input.prompt`"
    )
    assert error.data["errors"] == ("input.prompt",)


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from _patterns(item)


@pytest.mark.parametrize("kind", [RequestBody, Envelope, DeviceFrame, ChatRequest, NewDevice, DeviceChange, Settings])
def test_every_pattern_has_words(kind: Any) -> None:
    for pattern in _patterns(msgspec.json.schema(kind)):
        said = in_words(f"Expected `str` matching regex {pattern!r} - at `$.x`")

        assert said.endswith(" - at `$.x`")
        assert "regex" not in said
        assert "of another form" not in said, f"no words for {pattern}"


def test_of_a_choice_all_are_named() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"input": {"messages": [{"role": "robot", "content": "x"}]}}, RequestBody)

    assert in_words(str(caught.value)) == (
        "Expected `str` that is one of system, developer, user, assistant - at `$.input.messages[0].role`"
    )


@pytest.mark.parametrize("text", ["matching regex '\\x'", " - at `", " - at `$.b`", "`", "x" * 100_000])
def test_no_name_of_an_unknown_member_breaks_or_swells_what_is_said(text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"input": {"prompt": "x", text: 1}}, RequestBody)

    error = invalid_body(caught.value)

    assert error.detail.startswith("Object contains unknown field")
    assert len(error.detail) < 500
    assert all(len(str(member)) < 500 for member in error.data["errors"])  # type: ignore[attr-defined]
