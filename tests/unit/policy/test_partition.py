"""Which shard owns which device ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldpost.errors import ConfigError
from fieldpost.policy.partition import ShardMap, ShardRange


def _range(shard: str, first: int, last: int | None = None) -> ShardRange:
    return ShardRange(shard=shard, first=first, last=last)


@pytest.mark.parametrize(
    ("device_id", "expected"), [(1, "a"), (999, "a"), (1000, "b"), (1999, "b"), (2000, "a"), (2**63 - 1, "a")]
)
def test_a_range_owns_its_first_and_its_last_id(device_id: int, expected: str) -> None:
    shards = ShardMap([_range("b", 1000, 1999), _range("a", 2000), _range("a", 1, 999)])

    assert expected == shards.shard_of(device_id)
    assert ("a", "b") == shards.shards


@pytest.mark.parametrize("device_id", [0, -1])
def test_ids_that_cannot_be_have_no_shard(device_id: int) -> None:
    with pytest.raises(ConfigError):
        ShardMap([_range("a", 1)]).shard_of(device_id)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([], "from 1 on"),
        ([_range("a", 1, 10)], "from 11 on"),
        ([_range("a", 2)], "1 to 1 belong"),
        ([_range("a", 0)], "overlaps"),
        ([_range("a", 1, 10), _range("b", 12)], "11 to 11 belong"),
        ([_range("a", 1, 10), _range("b", 10)], "overlaps"),
        ([_range("a", 1), _range("b", 10)], "overlaps"),
        ([_range("a", 1, 0), _range("b", 1)], "ends before it begins"),
        ([_range("a", 1), _range("b", 1)], "overlaps"),
    ],
)
def test_gaps_and_overlaps_are_refused(ranges: list[ShardRange], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShardMap(ranges)


@given(
    borders=st.lists(st.integers(min_value=2, max_value=10_000), unique=True, max_size=20).map(sorted),
    device_id=st.integers(min_value=1, max_value=20_000),
    source=st.randoms(use_true_random=False),
)
def test_every_id_has_the_one_shard_whose_range_holds_it(borders: list[int], device_id: int, source: object) -> None:
    firsts = [1, *borders]
    lasts = [border - 1 for border in borders] + [None]
    ranges = [_range(f"s{first}", first, last) for first, last in zip(firsts, lasts, strict=True)]
    source.shuffle(ranges)  # type: ignore[attr-defined]

    owner = ShardMap(ranges).shard_of(device_id)

    assert f"s{max(first for first in firsts if first <= device_id)}" == owner
