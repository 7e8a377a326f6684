from __future__ import annotations

import pytest

from tenantplane.core.errors import InvalidInput, Unprocessable, UnsupportedMediaType
from tenantplane.dataplane.sources.documents.media import Medium, document_name, medium_of

PDF = b"%PDF-1.7\n..."


@pytest.mark.parametrize(
    ("declared", "name", "data", "medium"),
    [
        ("text/plain", "a", b"text", Medium("text/plain")),
        ("Text/Plain; charset=ISO-8859-1", "a", b"t", Medium("text/plain", "iso-8859-1")),
        ('text/plain; charset="utf8"', "a.pdf", b"t", Medium("text/plain", "utf-8")),
        ("text/x-markdown", "a", b"# t", Medium("text/markdown")),
        ("application/xhtml+xml", "a", b"<p>", Medium("text/html")),
        ("application/pdf", "a", PDF, Medium("application/pdf")),
        ("application/pdf", "a", b"\xef\xbb\xbfjunk" + PDF, Medium("application/pdf")),
        (None, "a.MD", b"# t", Medium("text/markdown")),
        ("application/octet-stream", "a.htm", b"<p>", Medium("text/html")),
        ("", "a.pdf", PDF, Medium("application/pdf")),
        (None, "a", PDF, Medium("application/pdf")),
    ],
    ids=[f"medium-{number}" for number in range(11)],
)
def test_a_document_is_what_its_type_and_its_bytes_say(
    declared: str | None, name: str, data: bytes, medium: Medium
) -> None:
    assert medium_of(declared, name, data) == medium


@pytest.mark.parametrize(
    ("declared", "name", "data"),
    [
        ("application/zip", "a.zip", b"PK\x03\x04"),
        ("image/png", "a.txt", b"text"),
        ("application/json", "a.json", b"{}"),
        ("text/plain", "a.txt", PDF),
        ("text/markdown", "a.md", b"PK\x03\x04"),
        ("text/html", "a.html", b"\x7fELF"),
        ("application/pdf", "a.pdf", b"text"),
        (None, "a.pdf", b"text"),
        (None, "a.exe", b"MZ"),
        (None, "a", b"text"),
        ("garbage", "a.txt", b"text"),
    ],
    ids=[f"refused-{number}" for number in range(11)],
)
def test_what_they_do_not_agree_on_is_refused(declared: str | None, name: str, data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        medium_of(declared, name, data)
    assert refused.value.status == 415
    assert "text/plain" in str(refused.value)


@pytest.mark.parametrize("charset", ["utf-7", "idna", "hex", "rot13", "x" * 100])
def test_an_encoding_off_the_list_is_refused(charset: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        medium_of(f"text/plain; charset={charset}", "a", b"text")
    assert refused.value.error_code == "encoding_not_supported"


def test_a_name_is_trimmed() -> None:
    assert document_name("  handbook/Urlaub 2026.md ") == "handbook/Urlaub 2026.md"


@pytest.mark.parametrize(
    "name",
    [None, "", "  ", "a" * 201, "a\nb", "a\x00", "a\x7fb", "\ud800"],
    ids=["none", "empty", "blank", "long", "newline", "nul", "delete", "surrogate"],
)
def test_a_name_that_would_spoil_a_line_is_refused(name: str | None) -> None:
    with pytest.raises(InvalidInput) as refused:
        document_name(name)
    assert refused.value.errors[0].path == "name"
