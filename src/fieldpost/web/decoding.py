"""Reads JSON bodies as JSON Schema understands them: `1.0` is a whole number. Source: JSON Schema 2020-12, section 6.1.1."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """Turns bytes into `kind`; made once per type."""
    decode = msgspec.json.Decoder(kind).decode

    def read(raw: bytes) -> T:
        try:
            return decode(raw)
        except msgspec.ValidationError as error:
            if "got `float`" not in str(error):
                raise
        return msgspec.convert(_whole(msgspec.json.decode(raw)), kind)

    return read


def _whole(value: Any) -> Any:
    """The value with whole numbers as integers, however they were written."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
