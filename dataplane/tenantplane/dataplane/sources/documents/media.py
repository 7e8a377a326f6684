"""What a document is: by what its sender declares and what its first bytes say. Pure.

Both must agree. What is declared as nothing (`application/octet-stream`, or no type) is taken for
what its name ends in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from pathlib import PurePosixPath
from typing import Final, Literal

from tenantplane.core.errors import FieldError, InvalidInput, Unprocessable, UnsupportedMediaType

MediaType = Literal["text/plain", "text/markdown", "text/html", "application/pdf"]

MAX_NAME_CHARS: Final = 200
_UNDECLARED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_BY_TYPE: Final[dict[str, MediaType]] = {
    "text/plain": "text/plain",
    "text/markdown": "text/markdown",
    "text/x-markdown": "text/markdown",
    "text/html": "text/html",
    "application/xhtml+xml": "text/html",
    "application/pdf": "application/pdf",
    "application/x-pdf": "application/pdf",
}
_BY_SUFFIX: Final[dict[str, MediaType]] = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
    ".pdf": "application/pdf",
}
# As readers of PDF have it: the header stands somewhere in the first 1,024 bytes.
_PDF_HEADER, _PDF_HEADER_WITHIN = b"%PDF-", 1024
# Zip (and Office), gzip, ELF, PNG, JPEG, GIF, OLE (old Office), 7z, RAR.
_BINARIES: Final = (
    b"PK\x03\x04", b"\x1f\x8b", b"\x7fELF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8",
    b"\xd0\xcf\x11\xe0", b"7z\xbc\xaf", b"Rar!",
)  # fmt: skip
# Each decodes what it is given, or says that it cannot; none executes or fetches anything.
CHARSETS: Final = frozenset(
    {"utf-8", "us-ascii", "utf-16", "iso-8859-1", "iso-8859-15", "windows-1252"}
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Medium:
    """The media type, and the declared encoding of a text (None: UTF-8, or what HTML says)."""

    media_type: MediaType
    charset: str | None = None


def medium_of(declared: str | None, name: str, data: bytes) -> Medium:
    """Raises UnsupportedMediaType or Unprocessable, which says what can be sent."""
    header = Message()
    header["content-type"] = declared or ""
    # An absent or broken type reads as text/plain there: only a type that was written counts.
    written = (declared or "").partition(";")[0].strip().lower()
    if written in _UNDECLARED:
        found = _BY_SUFFIX.get(PurePosixPath(name).suffix.lower())
        if found is None and _is_pdf(data):
            found = "application/pdf"
    else:
        found = _BY_TYPE.get(written)
    if found is None:
        raise _unsupported(f"{written or 'A document without a type'} is not read here.")
    _require_agreement(found, data)
    charset = header.get_param("charset")
    return Medium(found, None if charset is None else charset_of(str(charset)))


def charset_of(given: str) -> str:
    """The encoding of that name. Raises Unprocessable for one that is not read here."""
    charset = given.strip().lower()
    charset = {"utf8": "utf-8", "ascii": "us-ascii", "latin1": "iso-8859-1"}.get(charset, charset)
    if charset not in CHARSETS:
        raise Unprocessable(
            f"The encoding {charset[:40]!r} is not read here.",
            hint="Send the text as UTF-8.",
            code="encoding_not_supported",
        )
    return charset


def document_name(given: str | None) -> str:
    """The name under which a document is kept. Raises InvalidInput."""
    name = (given or "").strip()
    if not name or len(name) > MAX_NAME_CHARS or _CONTROL.search(name):
        message = f"between 1 and {MAX_NAME_CHARS} characters, no control characters"
        raise InvalidInput(
            f"A document needs a name: {message}.",
            hint="Give it as ?name=… or as the file's own name.",
            errors=(FieldError("name", message),),
        )
    return name


def _require_agreement(media_type: MediaType, data: bytes) -> None:
    if media_type == "application/pdf":
        if not _is_pdf(data):
            raise _unsupported("The document is declared as PDF and has no PDF header.")
        return
    if data.startswith(_BINARIES) or data.lstrip()[:5] == _PDF_HEADER:
        raise _unsupported(f"The document is declared as {media_type} and is a binary file.")


def _is_pdf(data: bytes) -> bool:
    return _PDF_HEADER in data[:_PDF_HEADER_WITHIN]


def _unsupported(detail: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        detail,
        hint="Send text/plain, text/markdown, text/html or application/pdf, as what it is.",
    )
