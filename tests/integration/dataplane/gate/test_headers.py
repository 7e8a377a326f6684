"""What a stranger may make the process keep in memory before it has proven anything."""

from __future__ import annotations

import asyncio

from tests.fixtures.dataplane import ScriptedPeers

_MEBIBYTE = b"x" * 1024 * 1024


async def answer_to(port: int, start: bytes, piece: bytes, pieces: int) -> tuple[bytes, int]:
    """The answer to a request that never ends its header, and how many pieces were taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    try:
        writer.write(start)
        for _ in range(pieces):
            writer.write(piece)
            await writer.drain()
            sent += 1
    except ConnectionError:
        pass  # the server had enough
    async with asyncio.timeout(5):
        try:
            answer = await reader.read(100)
        except ConnectionError:
            answer = b""
    writer.close()
    return answer, sent


async def test_a_header_without_an_end_is_refused(scripted_plane: ScriptedPeers) -> None:
    port = scripted_plane.data.port
    for start in (b"GET /v1/models HTTP/1.1\r\nx-long: ", b"GET /", b"GET / HTTP/1.1\r\n"):
        piece = b"x: y\r\n" * 200_000 if start.endswith(b"\n") else _MEBIBYTE
        answer, sent = await answer_to(port, start, piece, 50)
        assert answer.startswith(b"HTTP/1.1 431 ") or sent < 50
        assert sent < 50


async def test_an_ordinary_header_may_be_long(scripted_plane: ScriptedPeers) -> None:
    secret = await scripted_plane.tenant("long-winded")
    for _ in range(3):  # counted anew for each request of a connection
        answer = await scripted_plane.data.get("/v1/models", secret, **{"x-note": "n" * 30_000})
        assert answer.status_code == 200


async def test_a_large_body_is_no_long_header(scripted_plane: ScriptedPeers) -> None:
    secret = await scripted_plane.tenant("large-bodied")
    for size in (70_000, 300_000, 1_500_000):
        answer = await scripted_plane.data.chat(secret, "n" * size)
        assert answer.status_code == 200
