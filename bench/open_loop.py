"""A load generator in a process of its own: requests at fixed times, whatever becomes of the ones
before. Latency counts from the time at which a request should have gone out, so a server that
stalls is charged for all that it kept waiting (no coordinated omission).

    python -m bench.open_loop < plan.json      one line "ready", waits for a line, one line of results

Loopback alone. Bounded: `seconds` of sending, `DRAIN_SECONDS` of waiting, `connections` a stream.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import uvloop

HOST = "127.0.0.1"
DRAIN_SECONDS = 5.0
_HEAD_END = b"\r\n\r\n"
_CHUNKED_END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Stream:
    """Like requests at a constant rate. `slow_read_seconds`: so long nothing of an answer is read."""

    label: str
    port: int
    request: str  # the whole HTTP/1.1 request
    rate_per_second: float
    connections: int
    first_at_seconds: float = 0.0
    slow_read_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    seconds: float
    streams: tuple[Stream, ...]


@dataclass(slots=True)
class Measured:
    """What became of a stream's requests. `unsent` waited for a connection to the end."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    with_retry_after: int = 0
    broken: int = 0
    unsent: int = 0


class _Connection(asyncio.Protocol):
    """One request at a time; knows when an answer is whole by its length or its last chunk."""

    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._intended = 0.0
        self._head: bytes | None = None
        self._tail = b""
        self._missing = 0
        self._buffer = bytearray()
        self._busy = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._sender.idle(self)

    def send(self, request: bytes, intended: float, slow_read_seconds: float) -> None:
        assert self.transport is not None
        self._intended, self._busy, self._head = intended, True, None
        self._buffer.clear()
        self.transport.write(request)
        if slow_read_seconds:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(slow_read_seconds, self._read_on)

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            self._buffer += data
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                return
            self._head = bytes(self._buffer[:end]).lower()
            data = bytes(self._buffer[end + len(_HEAD_END) :])
            self._missing = _content_length(self._head)
            self._tail = b""
        if self._missing >= 0:
            self._missing -= len(data)
            whole = self._missing <= 0
        else:
            self._tail = (self._tail + data)[-len(_CHUNKED_END) :]
            whole = self._tail == _CHUNKED_END
        if whole:
            self._busy = False
            self._sender.answered(self._head, self._intended)
            self._sender.idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sender.lost(self, was_busy=self._busy)

    def _read_on(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()


def _content_length(head: bytes) -> int:
    """-1 where the answer comes in chunks."""
    _, found, rest = head.partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else -1


class _Sender:
    """Sends one stream over connections that it opens as they are needed."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._request = stream.request.encode()
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._opening = 0
        self._due: deque[float] = deque()
        self._ended = False
        self.measured = Measured()

    async def run(self, began: float, seconds: float) -> None:
        step = 1 / self._stream.rate_per_second
        next_at = began + self._stream.first_at_seconds
        while next_at < began + seconds:
            now = time.perf_counter()
            if now < next_at:
                await asyncio.sleep(next_at - now)
                continue
            self._due.append(next_at)
            next_at += step
            self._send_due()
        deadline = time.perf_counter() + DRAIN_SECONDS
        while self._unanswered() and time.perf_counter() < deadline:  # noqa: ASYNC110 (bounded)
            await asyncio.sleep(0.01)
        self._ended = True
        self.measured.unsent = self._unanswered()
        for connection in self._open:
            if connection.transport is not None:
                connection.transport.abort()

    def _unanswered(self) -> int:
        return len(self._due) + len(self._open) - len(self._idle)

    def idle(self, connection: _Connection) -> None:
        if connection not in self._open:
            self._opening -= 1
            self._open.add(connection)
        self._idle.append(connection)
        self._send_due()

    def answered(self, head: bytes, intended: float) -> None:
        self.measured.latencies_ms.append((time.perf_counter() - intended) * 1000)
        status = int(head[9:12])
        self.measured.statuses[status] = self.measured.statuses.get(status, 0) + 1
        if b"\r\nretry-after:" in head:
            self.measured.with_retry_after += 1

    def lost(self, connection: _Connection, *, was_busy: bool) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if was_busy and not self._ended:
            self.measured.broken += 1

    def _send_due(self) -> None:
        while self._due and self._idle and not self._ended:
            connection = self._idle.pop()
            connection.send(self._request, self._due.popleft(), self._stream.slow_read_seconds)
        wanted = min(len(self._due), self._stream.connections - len(self._open))
        while self._opening < wanted and not self._ended:
            self._opening += 1
            asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), HOST, self._stream.port
            )
        except OSError:
            self._opening -= 1
            self.measured.broken += 1


async def _run(plan: Plan) -> dict[str, Measured]:
    senders = {stream.label: _Sender(stream) for stream in plan.streams}
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    gc.freeze()
    gc.disable()  # its pauses would count as the server's
    began = time.perf_counter() + 0.05
    await asyncio.gather(*(sender.run(began, plan.seconds) for sender in senders.values()))
    return {label: sender.measured for label, sender in senders.items()}


def encoded(plan: Plan) -> str:
    """A plan as one line."""
    return json.dumps(asdict(plan))


def _decoded(line: str) -> Plan:
    read: dict[str, Any] = json.loads(line)
    return Plan(read["seconds"], tuple(Stream(**stream) for stream in read["streams"]))


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured = runner.run(_run(_decoded(sys.stdin.readline())))
    # Buffered, whatever PYTHONUNBUFFERED says: an unbuffered print ends at what the pipe takes.
    with open(sys.stdout.fileno(), "w", closefd=False) as out:
        print(json.dumps({label: asdict(one) for label, one in measured.items()}), file=out)


if __name__ == "__main__":
    main()
