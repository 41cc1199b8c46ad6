"""A bucket gives a burst at once and then its rate."""

from fieldpost.policy.token_bucket import Bucket, take


def _taken(bucket: Bucket, times: list[float]) -> list[bool]:
    taken = []
    for now_seconds in times:
        bucket, is_taken = take(bucket, now_seconds=now_seconds, per_second=2, burst=3)
        taken.append(is_taken)
    return taken


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    full = Bucket(tokens=3, at_seconds=0)

    assert [True, True, True, False] == _taken(full, [0, 0, 0, 0])
    assert [True, True, True, False, True, False] == _taken(full, [0, 0, 0, 0.25, 0.5, 0.5])


def test_it_never_holds_more_than_its_burst() -> None:
    assert [True, True, True, False] == _taken(Bucket(tokens=0, at_seconds=0), [1000] * 4)


def test_time_that_goes_back_gives_nothing() -> None:
    assert [False, False] == _taken(Bucket(tokens=0, at_seconds=10), [5, 5])
