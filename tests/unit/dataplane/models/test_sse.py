from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.dataplane.models.sse import MAX_LINE_BYTES, comment, event, events


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@given(st.integers(1, 40), st.sampled_from([b"\n", b"\r\n"]))
async def test_events_are_read_whatever_the_pieces(size: int, newline: bytes) -> None:
    stream = b': note\nid: 3\ndata: {"a":\ndata: 1}\n\ndata:two\n\n\ndata: [DONE]\n\ndata: cut'
    read = [data async for data in events(pieces(stream.replace(b"\n", newline), size))]
    assert read == ['{"a":\n1}', "two", "[DONE]"]


async def test_what_is_written_is_read_back() -> None:
    stream = comment("hello") + event({"text": "two\nlines é"})
    assert [d async for d in events(pieces(stream, 7))] == ['{"text":"two\\nlines \\u00e9"}']


async def test_an_endless_line_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        [_ async for _ in events(pieces(b"x" * (2 * MAX_LINE_BYTES), 65_536))]


async def test_an_event_without_an_end_is_refused() -> None:
    line = b"data: " + b"x" * 1000 + b"\n"
    with pytest.raises(ValueError, match="too long"):
        [_ async for _ in events(pieces(line * (2 * MAX_LINE_BYTES // 1000), 65_536))]
