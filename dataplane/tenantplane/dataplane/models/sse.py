"""Server-sent events, read and written (WHATWG HTML, section 9.2.6: parsing an event stream)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final

DONE: Final = "[DONE]"
MAX_LINE_BYTES = 1024 * 1024


async def events(pieces: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The `data` of each event. Comments and other fields are skipped.

    Raises ValueError for a line or an event above 1 MiB, or text that is not UTF-8.
    """
    data: list[str] = []
    size = 0
    async for line in _lines(pieces):
        if not line:
            if data:
                yield "\n".join(data)
            data, size = [], 0
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
            size += len(line)
        if size > MAX_LINE_BYTES:
            raise ValueError("an event of the event stream is too long")
    # An event that the end of the stream cuts short is dropped, as the standard has it.


async def _lines(pieces: AsyncIterable[bytes]) -> AsyncIterator[str]:
    rest = b""
    async for piece in pieces:
        # Providers end lines with LF or CRLF; a lone CR as an end is not in use.
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError("a line of the event stream is too long")
        for line in lines:
            yield line.removesuffix(b"\r").decode()


def event(body: Any) -> bytes:
    """One event whose data is `body` as JSON."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def comment(text: str) -> bytes:
    """A line that clients skip: keeps the connection busy, or carries a note for people."""
    return b": " + text.encode() + b"\n\n"


DONE_EVENT: Final = b"data: " + DONE.encode() + b"\n\n"
