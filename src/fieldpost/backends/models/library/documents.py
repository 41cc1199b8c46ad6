"""Documents as passages: what a Markdown, text, HTML or PDF file says, in pieces that can be quoted.

Pure. Not here: limits of time and memory, which are those of the process it runs in (`reader`).
"""

import codecs
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO

from fieldpost.backends.models.library.outline import Outline, Piece

#: Pages of a PDF that are read.
_MAX_PAGES = 2_000

_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(\S.*)$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([A-Za-z0-9_-]{1,40})", re.IGNORECASE)
_HIDDEN = frozenset({"script", "style", "template", "title", "noscript", "svg"})
_PARAGRAPHS = frozenset({"p", "table", "ul", "ol", "section", "article", "blockquote", "pre", "dl", "hr"})
_LINES = frozenset({"div", "tr", "br", "dd", "dt"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}

SUFFIXES = frozenset({".md", ".markdown", ".txt", ".html", ".htm", ".pdf"})


def pieces_of(suffix: str, content: bytes) -> list[Piece]:
    """The passages of a document.

    Raises:
        ValueError: it cannot be read as what its suffix says, or says too much.
    """
    outline = Outline()
    if suffix == ".pdf":
        _read_pdf(content, outline)
    elif suffix in (".html", ".htm"):
        _read_html(_text(content), outline)
    elif suffix == ".txt":
        outline.add(_text(content))
    else:
        _read_markdown(_text(content), outline)
    return outline.pieces()


def _text(content: bytes) -> str:
    """UTF-8; else UTF-16 with a mark, what an HTML page says of itself, or what Windows' editors write."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _with_plain_lines(content.decode("utf-16", errors="replace"))
    if b"\0" in content:
        raise ValueError("not a text")
    try:
        return _with_plain_lines(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        declared = _CHARSET.search(content[:4096])
        encoding = declared[1].decode() if declared else "cp1252"
    try:
        return _with_plain_lines(content.decode(encoding, errors="replace"))
    except LookupError:
        return _with_plain_lines(content.decode("cp1252", errors="replace"))


def _with_plain_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _read_markdown(text: str, outline: Outline) -> None:
    lines: list[str] = []
    is_code = False
    for line in text.split("\n"):
        if _FENCE.match(line):
            is_code = not is_code
        heading = None if is_code else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        outline.add("\n".join(lines))
        lines = []
        outline.head(len(heading[1]), _without_closing_marks(heading[2].rstrip()))
    outline.add("\n".join(lines))


def _without_closing_marks(heading: str) -> str:
    bare = heading.rstrip("#")
    return bare.rstrip() if bare.endswith((" ", "\t")) else heading


class _Page(HTMLParser):
    """Hands headings and the text between them to an outline."""

    def __init__(self, outline: Outline) -> None:
        super().__init__(convert_charrefs=True)
        self._outline = outline
        self._parts: list[str] = []
        self._hidden = 0
        self._is_heading = False
        self._is_preformatted = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag == "body":
            self._hidden = 0
        elif tag in _HEADINGS:
            self.flush()
            self._is_heading = True
        elif tag == "li":
            self._parts.append("\n- ")
        elif tag in ("td", "th"):
            self._parts.append(" | ")
        elif tag in _PARAGRAPHS:
            self._parts.append("\n\n")
            self._is_preformatted = tag == "pre"
        elif tag in _LINES:
            self._parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _HEADINGS and self._is_heading:
            self._is_heading = False
            self._outline.head(_HEADINGS[tag], " ".join("".join(self._parts).split()))
            self._parts = []
        elif tag in _PARAGRAPHS:
            self._parts.append("\n\n")
            self._is_preformatted = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(data if self._is_preformatted else re.sub(r"\s+", " ", data))

    def flush(self) -> None:
        """What was read since the last heading belongs to it."""
        self._outline.add("\n".join(line.strip() for line in "".join(self._parts).split("\n")))
        self._parts = []


def _read_html(text: str, outline: Outline) -> None:
    page = _Page(outline)
    page.feed(text)
    page.close()
    page.flush()


def _read_pdf(content: bytes, outline: Outline) -> None:
    try:
        for number, text in enumerate(_pages(content), start=1):
            outline.head(1, f"page {number}")
            # Letters outside Unicode come out of broken fonts.
            outline.add(_with_plain_lines(text.encode("utf-8", errors="replace").decode()))
    except Exception as error:
        # Broken files make its parser raise anything.
        raise ValueError(f"not a readable PDF: {type(error).__name__} {error}") from error


def _pages(content: bytes) -> Iterator[str]:
    from pypdf import PdfReader

    for page in PdfReader(BytesIO(content)).pages[:_MAX_PAGES]:
        yield page.extract_text()
