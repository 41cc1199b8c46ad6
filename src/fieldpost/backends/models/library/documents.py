"""Documents as passages: what a Markdown, text, HTML or PDF file says, in pieces that can be quoted. Pure but for PDF."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO

import msgspec

#: Characters a passage grows to before the next paragraph begins another one.
_FULL_CHARACTERS = 900
#: A single paragraph is cut at this length.
_MAX_CHARACTERS = 2_000
#: Pages of a PDF that are read.
_MAX_PAGES = 2_000

_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_BLANK = re.compile(r"\n\s*\n")
_HIDDEN = frozenset({"script", "style", "head", "template", "noscript", "svg"})
_BLOCKS = frozenset(
    {"p", "div", "li", "ul", "ol", "tr", "table", "br", "section", "article", "blockquote", "pre", "dd", "dt"}
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}

SUFFIXES = frozenset({".md", ".markdown", ".txt", ".html", ".htm", ".pdf"})


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One passage: the headings above it, joined by " › ", and its text."""

    heading: str
    text: str


def pieces_of(suffix: str, content: bytes) -> list[Piece]:
    """The passages of a document.

    Raises:
        ValueError: it cannot be read as what its suffix says.
    """
    if suffix == ".pdf":
        return _from_pdf(content)
    text = content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\0", "")
    if suffix in (".html", ".htm"):
        text = _html_as_markdown(text)
    if suffix == ".txt":
        return list(_passages("", text))
    return _from_markdown(text)


def _from_markdown(text: str) -> list[Piece]:
    pieces: list[Piece] = []
    path: list[str] = []
    lines: list[str] = []
    is_code = False
    for line in text.split("\n"):
        if _FENCE.match(line):
            is_code = not is_code
        heading = None if is_code else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        pieces += _passages(" › ".join(filter(None, path)), "\n".join(lines))
        lines = []
        level = len(heading[1])
        path = [*path[: level - 1], *[""] * (level - 1 - len(path)), heading[2]]
    return pieces + list(_passages(" › ".join(filter(None, path)), "\n".join(lines)))


def _passages(heading: str, text: str) -> Iterator[Piece]:
    current = ""
    for paragraph in _paragraphs(text):
        if current and len(current) + len(paragraph) > _FULL_CHARACTERS:
            yield Piece(heading=heading, text=current)
            current = ""
        current = f"{current}\n\n{paragraph}" if current else paragraph
    if current:
        yield Piece(heading=heading, text=current)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in _BLANK.split(text):
        stripped = paragraph.strip("\n").rstrip()
        for start in range(0, len(stripped), _MAX_CHARACTERS):
            if part := stripped[start : start + _MAX_CHARACTERS].strip():
                yield part


class _Outline(HTMLParser):
    """Text with headings marked as in Markdown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag in _HEADINGS:
            self.parts.append(f"\n\n{'#' * _HEADINGS[tag]} ")
        elif tag == "li":
            self.parts.append("\n- ")
        elif tag in ("td", "th"):
            self.parts.append(" | ")
        elif tag in _BLOCKS:
            self.parts.append("\n\n" if tag in ("p", "table", "ul", "ol") else "\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _HEADINGS:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(re.sub(r"\s+", " ", data))


def _html_as_markdown(text: str) -> str:
    outline = _Outline()
    outline.feed(text)
    outline.close()
    return "\n".join(line.strip() for line in "".join(outline.parts).split("\n"))


def _from_pdf(content: bytes) -> list[Piece]:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(BytesIO(content))
        pieces: list[Piece] = []
        for number, page in enumerate(reader.pages[:_MAX_PAGES], start=1):
            pieces += _passages(f"page {number}", page.extract_text().replace("\0", ""))
    except (PyPdfError, OSError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a readable PDF: {error}") from error
    return pieces
