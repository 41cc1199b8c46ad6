"""What documents say, as passages with their headings."""

import pytest

from fieldpost.backends.models.library.documents import pieces_of
from fieldpost.backends.models.library.outline import MAX_TEXT_CHARACTERS, Piece
from tests.support.pdf import pdf


def _piece(heading: str, text: str) -> Piece:
    return Piece(heading=heading, text=text)


def test_markdown_is_cut_at_its_headings() -> None:
    text = (
        "Before.\n\n# Tyres\nRound.\n\n## Tread ##\nDeep.\n\n### Winter\nDeeper.\n\n## C#\nSharp.\n\n# Brakes\nGood.\n"
    )

    assert pieces_of(".md", text.encode()) == [
        _piece("", "Before."),
        _piece("Tyres", "Round."),
        _piece("Tyres › Tread", "Deep."),
        _piece("Tyres › Tread › Winter", "Deeper."),
        _piece("Tyres › C#", "Sharp."),
        _piece("Brakes", "Good."),
    ]


def test_a_heading_may_skip_levels() -> None:
    assert pieces_of(".md", b"#### Deep\na\n\n# High\nb\n\n### Middle\nc") == [
        _piece("Deep", "a"),
        _piece("High", "b"),
        _piece("High › Middle", "c"),
    ]


def test_code_has_no_headings() -> None:
    (piece,) = pieces_of(".md", b"# Script\n\n```sh\n# not a heading\n```")

    assert piece == _piece("Script", "```sh\n# not a heading\n```")


def test_text_has_no_headings() -> None:
    assert pieces_of(".txt", b"# 5 means number five") == [_piece("", "# 5 means number five")]


def test_paragraphs_are_gathered_until_a_passage_is_full() -> None:
    paragraphs = [f"{number}: " + "word " * 60 for number in range(9)]

    passages = [piece.text for piece in pieces_of(".txt", "\n\n".join(paragraphs).encode())]

    assert len(passages) == 5
    assert all(len(passage) <= 900 for passage in passages)
    assert "\n\n".join(passages).split() == " ".join(paragraphs).split()


@pytest.mark.parametrize("separator", ["\n", " ", ""])
def test_a_long_paragraph_is_cut_where_it_hurts_least(separator: str) -> None:
    words = [f"word{number:05}" for number in range(2000)]

    passages = [piece.text for piece in pieces_of(".txt", separator.join(words).encode())]

    assert all(len(passage) <= 2000 for passage in passages)
    assert separator.join(passages) == separator.join(words)
    if separator:
        assert separator.join(passages).split() == words


def test_a_document_that_says_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="more than"):
        pieces_of(".txt", b"a " * (MAX_TEXT_CHARACTERS // 2 + 1))


def test_a_page_is_cut_at_its_headings() -> None:
    page = b"""<!doctype html><html><head><title>Not this</title><style>p { color: red }</style>
    <script>var x = "<h1>no</h1>"</script></head><body>
    <p>Before.</p>
    <h1>Cold &amp; <b>chain</b></h1><p>Minus&nbsp;18
    degrees.</p>
    <h2>Alarms</h2><ul><li>Stop.<li>Call.</ul>
    <table><tr><th>Goods<th>Degrees<tr><td>Fish<td>2</table>
    <h1>Trucks</h1><div>Big<br>and heavy.</div><svg><text>no</text></svg></h3>
    </body></html>"""

    assert pieces_of(".html", page) == [
        _piece("", "Before."),
        _piece("Cold & chain", "Minus 18 degrees."),
        _piece("Cold & chain › Alarms", "- Stop.\n- Call.\n\n| Goods | Degrees\n| Fish | 2"),
        _piece("Trucks", "Big\nand heavy."),
    ]


@pytest.mark.parametrize(
    "page",
    [
        b"<head><title>x<body><h1>Tyres</h1>Round.",
        b"<h1>Tyres</h1><pre>Round.</pre>",
        b"<h1>Tyres</h1># Round.",
        b"<h1>Tyres</h1>``` Round.",
        b"<p><h1>Tyres<!-- x --></h1><![CDATA[x]]><?php x ?>Round.</p></div></div>",
    ],
)
def test_careless_pages_are_read_too(page: bytes) -> None:
    (piece,) = pieces_of(".html", page)

    assert piece.heading == "Tyres"
    assert piece.text.endswith("Round.")


@pytest.mark.parametrize(
    "content",
    [
        "Größe".encode(),
        "\ufeffGröße".encode(),
        "Größe".encode("utf-16"),
        "\ufeffGröße".encode("utf-16-be"),
        "Größe".encode("cp1252"),
    ],
)
def test_texts_of_several_encodings_are_read(content: bytes) -> None:
    assert pieces_of(".txt", content) == [_piece("", "Größe")]


@pytest.mark.parametrize(("encoding", "text"), [("iso-8859-2", "Łódź"), ("shift_jis", "積荷"), ("no-such", "Größe")])
def test_a_page_may_say_how_it_is_encoded(encoding: str, text: str) -> None:
    body = text.encode("cp1252" if encoding == "no-such" else encoding)

    assert pieces_of(".html", f'<meta charset="{encoding}"><p>'.encode() + body) == [_piece("", text)]


def test_line_ends_of_other_systems_are_line_ends() -> None:
    assert pieces_of(".md", b"# Tyres\r\n\r\nRound.\r\n") == [_piece("Tyres", "Round.")]
    assert pieces_of(".md", b"# Tyres\r\rRound.\r") == [_piece("Tyres", "Round.")]


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="not a text"):
        pieces_of(".txt", b"\x7fELF\0\0\0")


def test_a_pdf_is_read_page_by_page() -> None:
    assert pieces_of(".pdf", pdf("Tyres are (mostly) round.", "", "Größe zählt.")) == [
        _piece("page 1", "Tyres are (mostly) round."),
        _piece("page 3", "Größe zählt."),
    ]


@pytest.mark.parametrize(
    "content",
    [b"", b"no PDF at all", b"%PDF-1.7", pdf("a")[:200]],
)
def test_a_broken_pdf_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="PDF"):
        pieces_of(".pdf", content)
