from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.dataplane.models.sse import MAX_LINE_BYTES, EventReader, comment, event


def read(stream: bytes, size: int) -> list[bytes]:
    reader = EventReader()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    return [data for piece in pieces for data in reader.read(piece)]


@given(st.integers(1, 100), st.sampled_from([b"\n", b"\r\n"]))
def test_events_are_read_whatever_the_pieces(size: int, newline: bytes) -> None:
    stream = b': note\nid: 3\ndata: {"a":\ndata: 1}\n\ndata:two\n\n\ndata: [DONE]\n\ndata: cut'
    assert read(stream.replace(b"\n", newline), size) == [b'{"a":\n1}', b"two", b"[DONE]"]


def test_what_is_written_is_read_back() -> None:
    stream = comment("hello") + event({"text": "two\nlines é"})
    assert read(stream, 7) == ['{"text":"two\\nlines é"}'.encode()]


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        read(b"data: \xff\n\n", 100)


def test_an_endless_line_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        read(b"x" * (2 * MAX_LINE_BYTES), 65_536)


def test_an_event_without_an_end_is_refused() -> None:
    line = b"data: " + b"x" * 1000 + b"\n"
    with pytest.raises(ValueError, match="too long"):
        read(line * (2 * MAX_LINE_BYTES // 1000), 65_536)
