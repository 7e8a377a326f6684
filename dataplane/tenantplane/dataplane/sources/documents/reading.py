"""A document's bytes as text in sections, each under its headings. Pure, and run in a process of
its own (reader.py): a hostile file may spin or eat memory here, and nothing else suffers.

Nothing of a document is executed, and nothing that it names is fetched.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pypdf
from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString
from pypdf.errors import LimitReachedError

from tenantplane.core.errors import Unprocessable
from tenantplane.dataplane.sources.documents.media import Medium, charset_of

_HEADING_CHARS: Final = 200
_PATH: Final = " > "
_ATX = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_META_CHARSET = re.compile(rb"""<meta\s[^>]*charset\s*=\s*["']?\s*([A-Za-z0-9._-]+)""", re.I)
_BYTE_ORDER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")
_HEADINGS: Final = ("h1", "h2", "h3", "h4", "h5", "h6")
_UNREAD: Final = ("script", "style", "template", "noscript", "iframe", "object", "svg", "head")
_BLOCKS: Final = frozenset(
    {
        "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption",
        "footer", "form", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section",
        "table", "tr", "ul",
    }
)  # fmt: skip
# Not in text: Postgres refuses NUL, UTF-8 has no surrogates, and the others show nothing.
_UNPRINTED = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff\ufeff\ufffe\uffff]")
_NEWLINES = re.compile(r"\r\n?|\x0c|\u2028|\u2029|\x85")
_BLANK_LINES = re.compile(r"\n[ \t]*\n[ \t\n]*\n")


@dataclass(frozen=True, slots=True)
class ReadLimits:
    pages: int
    text_chars: int


@dataclass(frozen=True, slots=True)
class Section:
    """Text between two headings, or of a page; `heading` is the path to it, outermost first."""

    heading: str | None
    text: str


def read(data: bytes, medium: Medium, limits: ReadLimits) -> list[Section]:
    """The sections with text in them. Raises Unprocessable, which says what is wrong."""
    match medium.media_type:
        case "application/pdf":
            sections = _pdf(data, limits)
        case "text/html":
            sections = _html(data, medium.charset)
        case "text/markdown":
            sections = _markdown(_decoded(data, medium.charset))
        case "text/plain":
            sections = iter([Section(None, _decoded(data, medium.charset))])
    return list(_with_text(sections, limits))


def _with_text(sections: Iterator[Section], limits: ReadLimits) -> Iterator[Section]:
    read_chars = 0
    for section in sections:
        text = _clean(section.text)
        if not text:
            continue
        read_chars += len(text)
        if read_chars > limits.text_chars:
            raise too_large(f"has more than {limits.text_chars} characters of text")
        yield Section(_clean(section.heading or "").replace("\n", " ") or None, text)
    if not read_chars:
        raise Unprocessable(
            "The document has no text.",
            hint="A scan needs text recognition first.",
            code="document_empty",
        )


def _clean(text: str) -> str:
    text = _UNPRINTED.sub("", _NEWLINES.sub("\n", text))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _decoded(data: bytes, charset: str | None) -> str:
    if charset is None and data.startswith(_BYTE_ORDER_MARKS[:2]):
        charset = "utf-16"
    try:
        text = data.decode(charset or "utf-8")
    except UnicodeDecodeError as wrong:
        raise Unprocessable(
            f"The document is not {charset or 'UTF-8'}: byte {wrong.start} does not fit.",
            hint="Send it as UTF-8, or say what it is: content-type: text/plain; charset=…",
            code="encoding_not_supported",
        ) from wrong
    if "\x00" in text:
        raise Unprocessable(
            "The document has NUL characters: it is no text.", code="encoding_not_supported"
        )
    return text


def _markdown(text: str) -> Iterator[Section]:
    """Cut at ATX headings that stand outside of code (CommonMark 0.31 sections 4.2 and 4.5)."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    fence = ""
    for line in _NEWLINES.sub("\n", text).split("\n"):
        if marks := _FENCE.match(line):
            fence = _fence_after(fence, marks.group(1), line)
        heading = None if fence else _ATX.match(line)
        if heading:
            yield Section(_joined(path), "\n".join(lines))
            lines = []
            _enter(path, len(heading.group(1)), heading.group(2) or "")
        lines.append(line)  # the heading too: its words are to be found
    yield Section(_joined(path), "\n".join(lines))


def _fence_after(fence: str, marks: str, line: str) -> str:
    """The open fence after a line that begins with one; code that is never closed runs on."""
    if not fence:
        return marks
    closes = marks[0] == fence[0] and len(marks) >= len(fence) and line.strip() == marks
    return "" if closes else fence


def _enter(path: list[tuple[int, str]], level: int, heading: str) -> None:
    while path and path[-1][0] >= level:
        path.pop()
    if heading.strip():
        path.append((level, heading.strip()[:_HEADING_CHARS]))


def _joined(path: list[tuple[int, str]]) -> str | None:
    return _PATH.join(heading for _, heading in path) or None


def _html_charset(data: bytes) -> str | None:
    """What the document says of itself, never a guess (HTML living standard, 13.2.3.2 prescan)."""
    if data.startswith(_BYTE_ORDER_MARKS):
        return None
    said = _META_CHARSET.search(data[:1024])
    return charset_of(said.group(1).decode("ascii")) if said else None


class _Heading(NavigableString):
    """Stands where a heading element stood."""

    level: int = 0


def _html(data: bytes, charset: str | None) -> Iterator[Section]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # guesses about the sender's intent
        soup = BeautifulSoup(_decoded(data, charset or _html_charset(data)), "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for element in soup.find_all(_UNREAD):
        element.decompose()
    for element in soup.find_all(hidden=True):
        element.decompose()
    for element in soup.find_all(_HEADINGS):
        heading = _Heading(element.get_text(" ", strip=True))
        heading.level = int(element.name[1])
        element.replace_with(heading)
    path: list[tuple[int, str]] = []
    _enter(path, 0, title)
    pieces: list[str] = []
    for node in soup.descendants:
        if isinstance(node, _Heading):
            yield Section(_joined(path), _html_text(pieces))
            pieces = [str(node), "\n"]
            _enter(path, node.level, str(node))
        elif isinstance(node, Tag):
            pieces.append(
                "\n" if node.name in _BLOCKS else " " if node.name in {"td", "th"} else ""
            )
        elif type(node) is NavigableString:  # comments, CDATA and the like are kinds of it
            pieces.append(str(node))
    yield Section(_joined(path), _html_text(pieces))


def _html_text(pieces: list[str]) -> str:
    lines = "".join(pieces).split("\n")
    return "\n".join(" ".join(line.split()) for line in lines)


def _pdf(data: bytes, limits: ReadLimits) -> Iterator[Section]:
    try:
        document = pypdf.PdfReader(io.BytesIO(data))
        if document.is_encrypted:
            raise Unprocessable(
                "The PDF is encrypted.",
                hint="Save it without a password.",
                code="document_encrypted",
            )
        pages = len(document.pages)
        if pages > limits.pages:
            raise too_large(f"has {pages} pages, and {limits.pages} are read at most")
        for number, page in enumerate(document.pages, 1):
            yield Section(f"page {number}", page.extract_text())
    except (Unprocessable, MemoryError):
        raise
    except LimitReachedError as bomb:
        raise too_large("unpacks to more than is read") from bomb
    except Exception as broken:
        # Whatever a hostile file makes its reader do: KeyError, TypeError, RecursionError, …
        raise Unprocessable(
            f"The PDF cannot be read ({type(broken).__name__}).",
            hint="Save it anew from the program that made it.",
            code="document_broken",
        ) from broken


def too_large(what: str) -> Unprocessable:
    return Unprocessable(
        f"The document {what}.", hint="Send it in parts.", code="document_too_large"
    )
