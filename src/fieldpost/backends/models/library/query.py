"""From a question to a full-text query: only words, so that nothing a device writes is an operator. Pure."""

import re

#: Letters and digits; what joins them inside stays: 4.5, don't, tail-lift.
_WORD = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*")
#: Words that say nothing about what is asked, in the languages that drivers ask in.
_STOP = re.compile(
    r"""
    # English
      a | about | after | all | also | am | an | and | any | are | as | at | be | been | before | being | between | both
    | but | by | can | could | did | do | does | doing | done | during | each | few | for | from | further | get | had
    | has | have | having | he | her | here | hers | him | his | how | i | if | in | into | is | it | its | just | kind
    | long | many | may | me | might | more | most | much | must | my | need | no | nor | not | now | of | off | on | once
    | only | or | other | our | out | over | own | per | please | same | shall | she | should | so | some | such | tell
    | than | that | the | their | them | then | there | these | they | this | those | through | to | too | under | until
    | up | us | very | was | we | were | what | when | where | which | while | who | whom | why | will | with | would
    | you | your | [a-z]
    # German
    | das | dem | den | der | die | ein | eine | einer | eines | darf | für | ich | im | ist | kann | mit | muss | oder
    | sind | und | von | wann | wie | wir | wo | zu
    # French; not its "un": dangerous goods have UN numbers
    | avec | comment | dans | des | du | est | et | la | le | les | ou | pour | que | quoi | sont | une
    """,
    re.VERBOSE,
)
#: What of a question is looked at; the rest of a longer one is not searched for.
_MAX_CHARACTERS = 20_000
MAX_WORDS = 32


def words_of(question: str) -> list[str]:
    """The words worth looking for, each once, in their order; at most `MAX_WORDS`.

    >>> words_of("How long may I drive without a break?")
    ['drive', 'without', 'break']
    """
    words: dict[str, None] = {}
    for match in _WORD.finditer(question[:_MAX_CHARACTERS]):
        word = match[0].lower()
        if not _STOP.fullmatch(word):
            words[word] = None
        if len(words) == MAX_WORDS:
            break
    return list(words)


def match_expression(words: list[str]) -> str:
    """An FTS5 expression that any of the words satisfies.

    >>> match_expression(["tyre", "OR"])
    '"tyre" OR "OR"'
    """
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in words)


def is_relevant(found: int, asked: int) -> bool:
    """Whether a passage with `found` of the `asked` words is an answer at all: with more than two, one is chance.

    >>> [is_relevant(found, asked) for found, asked in ((1, 1), (1, 2), (1, 3), (2, 4), (2, 9))]
    [True, True, False, True, False]
    """
    half_of_few = (min(asked, 4) + 1) // 2
    return found >= max(half_of_few, round(asked * 0.34))
