"""Server-sent events, read and written (WHATWG HTML, section 9.2.6: parsing an event stream)."""

from __future__ import annotations

from typing import Any, Final

from tenantplane.dataplane.models.json_text import encoded

DONE: Final = b"[DONE]"
MAX_LINE_BYTES = 1024 * 1024


class EventReader:
    """The events of one stream, from the pieces that it comes in."""

    __slots__ = ("_data", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def read(self, piece: bytes) -> list[bytes]:
        """The `data`, in UTF-8, of each event that ends with this piece. Comments and other fields
        are skipped; an event that the end of the stream cuts short is dropped, as the standard has
        it. Raises ValueError for a line or an event above 1 MiB, or text that is not UTF-8.
        """
        # Providers end lines with LF or CRLF; a lone CR as an end is not in use.
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise ValueError("a line of the event stream is too long")
        found = []
        for line in lines:
            field = line.removesuffix(b"\r")
            if not field:
                if self._data:
                    found.append(b"\n".join(self._data))
                self._data, self._size = [], 0
            elif field.startswith(b"data:"):
                self._data.append(field[5:].removeprefix(b" "))
                self._size += len(field)
                if self._size > MAX_LINE_BYTES:
                    raise ValueError("an event of the event stream is too long")
            if not field.isascii():
                field.decode()
        return found


def event(body: Any) -> bytes:
    """One event whose data is `body` as JSON."""
    return b"data: " + encoded(body) + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients skip: keeps the connection busy, or carries a note for people."""
    return b": " + text.encode() + b"\n\n"


DONE_EVENT: Final = b"data: " + DONE + b"\n\n"
