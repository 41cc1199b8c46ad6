"""The folder door's rules, by tables and properties."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldpost.policy.settling import (
    MAX_NAME_BYTES,
    Settling,
    answer_name,
    drop_key,
    free_names,
    is_conflict_copy,
    is_skipped,
    numbered_name,
    reason_name,
)

_names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300).filter(
    lambda name: len(name.encode()) <= MAX_NAME_BYTES
)


@pytest.mark.parametrize(
    "name",
    [
        ".question.txt",
        ".~lock.question.txt#",
        ".syncthing.question.txt.tmp",
        "~syncthing~question.txt.tmp",
        "~$letter.docx",
        "question.txt~",
        "question.txt.partial",
        "question.txt.1a2b3c4d.partial",
        "question.txt.rclone_chunk.001",
        "question.txt.crdownload",
        "question.TMP",
        "question.txt.part",
        "Desktop.ini",
        "Thumbs.db",
        "Icon\r",
        ".DS_Store",
        ".tmp.drivedownload",
        ".fieldpost-0123456789abcdef.tmp",
    ],
)
def test_names_of_unfinished_and_private_files_are_skipped(name: str) -> None:
    assert is_skipped(name)


@pytest.mark.parametrize("name", ["question.txt", "a b.json", "tmp.md", "part.txt", "file", "x.pdf", "1.2.txt"])
def test_all_other_names_are_looked_at(name: str) -> None:
    assert not is_skipped(name)


@pytest.mark.parametrize(
    "name",
    [
        "a.sync-conflict-20260102-030405-ABCDEFG.txt",
        "a (Peter's conflicted copy 2026-01-02).txt",
        "a (conflicted copy 2026-01-02 030405).txt",
        "a_conflict-20260102-030405.txt",
    ],
)
def test_conflict_copies_are_recognised(name: str) -> None:
    assert is_conflict_copy(name)
    assert not is_skipped(name)


@given(_names)
def test_names_beside_a_file_end_as_promised_and_fit(name: str) -> None:
    for make, ending in ((answer_name, ".answer.json"), (reason_name, ".reason.json")):
        made = make(name)

        assert made.endswith(ending)
        assert len(made.encode()) <= MAX_NAME_BYTES
        if len((name + ending).encode()) <= MAX_NAME_BYTES:
            assert name + ending == made


def test_long_names_that_differ_only_at_their_end_have_different_answers() -> None:
    names = {answer_name("x" * 250 + ending) for ending in ("1", "2", "3.txt")}

    assert 3 == len(names)


@given(_names)
def test_free_names_begin_with_the_name_itself_fit_and_never_repeat(name: str) -> None:
    names = list(islice(free_names(name), 200))

    assert name == names[0]
    assert len(set(names)) == len(names)
    assert all(len(candidate.encode()) <= MAX_NAME_BYTES for candidate in names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("question.txt", "question (2).txt"),
        ("a.b.txt", "a.b (2).txt"),
        ("question", "question (2)"),
        (".hidden", ".hidden (2)"),
        ("a.", "a (2)."),
    ],
)
def test_numbers_stand_before_the_ending(name: str, expected: str) -> None:
    assert expected == numbered_name(name, 2)


def test_a_key_depends_on_place_content_and_time_and_is_short() -> None:
    keys = {
        drop_key(1, "a.txt", "00", 5),
        drop_key(2, "a.txt", "00", 5),
        drop_key(1, "b.txt", "00", 5),
        drop_key(1, "a.txt", "01", 5),
        drop_key(1, "a.txt", "00", 6),
    }

    assert 5 == len(keys)
    assert drop_key(1, "a.txt", "00", 5) in keys
    assert all(len(key) <= 255 for key in keys)


def _settling(max_places: int = 10) -> Settling[str, int]:
    return Settling(settle_seconds=2, max_places=max_places)


def test_a_file_has_settled_when_it_has_stood_still_for_long_enough() -> None:
    settling = _settling()

    assert [False, False, True, True] == [
        settling.has_settled("a", 1, is_empty=False, now_seconds=now) for now in (10, 11, 12, 13)
    ]


def test_a_change_starts_the_wait_anew() -> None:
    settling = _settling()
    settling.has_settled("a", 1, is_empty=False, now_seconds=10)

    assert not settling.has_settled("a", 2, is_empty=False, now_seconds=12)
    assert not settling.has_settled("a", 2, is_empty=False, now_seconds=13)
    assert settling.has_settled("a", 2, is_empty=False, now_seconds=14)


def test_a_file_known_to_have_stood_still_is_taken_at_once() -> None:
    assert _settling().has_settled("a", 1, is_empty=False, now_seconds=10, age_seconds=2)
    assert not _settling().has_settled("a", 1, is_empty=False, now_seconds=10, age_seconds=1.9)


def test_an_empty_file_is_given_more_time_to_be_written() -> None:
    settling = _settling()
    settling.has_settled("a", 1, is_empty=True, now_seconds=0)

    assert not settling.has_settled("a", 1, is_empty=True, now_seconds=9)
    assert settling.has_settled("a", 1, is_empty=True, now_seconds=10)


def test_the_places_seen_longest_ago_are_forgotten_first() -> None:
    settling = _settling(max_places=2)
    for place, now in (("a", 0), ("b", 1), ("a", 1.5), ("c", 1.6)):
        settling.has_settled(place, 1, is_empty=False, now_seconds=now)

    assert settling.has_settled("a", 1, is_empty=False, now_seconds=2)
    assert not settling.has_settled("b", 1, is_empty=False, now_seconds=3)
