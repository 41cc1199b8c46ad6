import msgspec
import pytest

from fieldpost.web.decoding import decoder


class Numbers(msgspec.Struct):
    count: int
    share: float = 0.0
    name: str = ""


def test_a_whole_number_is_whole_however_it_is_written() -> None:
    read = decoder(Numbers)

    numbers = read(b'{"count": 3.0, "share": 2.0}')

    assert (numbers.count, numbers.share) == (3, 2.0)


@pytest.mark.parametrize("raw", [b'{"count": 3.5}', b'{"count": "3"}', b'{"count": 3.0, "name": 1.0}', b"{}"])
def test_what_is_not_of_the_type_is_refused(raw: bytes) -> None:
    read = decoder(Numbers)

    with pytest.raises(msgspec.ValidationError):
        read(raw)
