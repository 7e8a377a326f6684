"""HTTP/1.1 with a bound on what precedes a request's body.

httptools parses without one (h11 has 64 KiB): whoever can connect could fill the memory of the
process with a header that never ends, long before a credential is asked for.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Tokens are bounded at 16 KiB (core/identity/jws.py); cookies and tracing stand beside them.
MAX_HEADER_BYTES = 64 * 1024

# RFC 6585 section 5
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\n"
    b"connection: close\r\n"
    b"\r\n"
)


class BoundedHeaders(HttpToolsProtocol):
    """Counts reads of the socket in which a header neither begins behind a body nor ends: one read
    (256 KiB) more than the bound may be kept, and never without end."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_header = True
        self._ended_here = False  # a header, in the read that is being parsed
        self._header_bytes = 0

    def data_received(self, data: bytes) -> None:
        began_in_header, self._ended_here = self._in_header, False
        super().data_received(data)
        if not began_in_header or self._ended_here:
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._in_header = False
        self._ended_here = True
        self._header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_header = True
