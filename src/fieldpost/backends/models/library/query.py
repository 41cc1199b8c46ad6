"""From a question to a full-text query: only words, so that nothing a device writes is an operator. Pure."""

import re

_WORD = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*", re.UNICODE)
#: Words that say nothing about what is asked.
_STOP = frozenset(
    """a about after all also am an and any are as at be been before being between both but by can could did do does doing
    down during each few for from further had has have having he her here hers him his how i if in into is it its just
    many may me might more most much must my no nor not now of off on once only or other our out over own per please s same
    shall she should so some such t tell than that the their them then there these they this those through to too under
    until up us very was we were what when where which while who whom why will with would you your
    der die das und oder ein eine einer eines ich wir wie was wo wann darf muss kann ist sind für von mit zu im in den dem
    le la les un une et ou que quoi comment est sont pour avec dans des du""".split()
)
#: Words of a question that are looked for.
MAX_WORDS = 32


def words_of(question: str) -> list[str]:
    """The words worth looking for, each once, in their order.

    >>> words_of("How long may I drive without a break?")
    ['long', 'drive', 'without', 'break']
    """
    words = (match[0].casefold() for match in _WORD.finditer(question))
    return list(dict.fromkeys(word for word in words if word not in _STOP and len(word) > 1))[:MAX_WORDS]


def match_expression(words: list[str]) -> str:
    """An FTS5 expression that any of the words satisfies.

    >>> match_expression(["tyre", "OR"])
    '"tyre" OR "OR"'
    """
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in words)


def is_relevant(found: int, asked: int) -> bool:
    """Whether a passage with `found` of the `asked` words is an answer at all: with many words, one is chance.

    >>> [is_relevant(found, asked) for found, asked in ((1, 1), (1, 2), (1, 4), (2, 4), (2, 9))]
    [True, True, False, True, False]
    """
    return found >= max(1, min(asked, round(asked * 0.34 + 0.25)))
