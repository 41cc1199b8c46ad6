"""From questions to words and expressions."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldpost.backends.models.library.query import MAX_WORDS, is_relevant, match_expression, words_of


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("How long may I drive without a break?", ["drive", "without", "break"]),
        ("Wie lange darf ich ohne Pause fahren?", ["lange", "ohne", "pause", "fahren"]),
        ("ADR class 3, UN 1203", ["adr", "class", "3", "un", "1203"]),
        ("Is 4.5 h or 4,5 h right?", ["4.5", "4,5", "right"]),
        ("driver's tail-lift", ["driver's", "tail-lift"]),
        ("tyre Tyre TYRE", ["tyre"]),
        ("Straße", ["straße"]),
        ("what is the of", []),
        ("?! … _ __", []),
        ("", []),
    ],
)
def test_only_words_that_say_something_are_looked_for(question: str, words: list[str]) -> None:
    assert words_of(question) == words


def test_a_long_question_is_looked_at_up_to_a_bound() -> None:
    assert len(words_of(" ".join(f"word{number}" for number in range(10_000)))) == MAX_WORDS
    assert words_of("the " * 1_000_000 + "tyre") == []


@given(st.text())
def test_no_question_is_an_error_of_the_engine(question: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE search USING fts5(text)")
    words = words_of(question)

    if words:
        connection.execute("SELECT 1 FROM search WHERE search MATCH ?", (match_expression(words),)).fetchall()

    connection.close()


def test_one_word_of_two_is_enough_and_one_of_many_is_chance() -> None:
    needed = [next(found for found in range(40) if is_relevant(found, asked)) for asked in (1, 2, 3, 4, 6, 9, 32)]

    assert needed == [1, 1, 2, 2, 2, 3, 11]
