"""A load generator in a process of its own: so many connections, each with one request at a time.

    python -m bench.gate_load < plan.json      one line of results

Loopback alone, bounded by `seconds`.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import uvloop

_HEAD_END = b"\r\n\r\n"
_CHUNKED_END = b"0\r\n\r\n"
_LONGEST_ANSWER_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`requests` are sent in turn; what is answered in the first `warm_seconds` is not counted."""

    port: int
    requests: tuple[str, ...]
    connections: int
    seconds: float
    warm_seconds: float = 0.5


@dataclass(slots=True)
class Measured:
    """`first_ms`: until the first byte of a body that comes in chunks."""

    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    broken: int = 0

    @property
    def per_second(self) -> float:
        return len(self.latencies_ms) / self.seconds


class _Connection(asyncio.Protocol):
    def __init__(self, plan: Plan, requests: Iterator[bytes], measured: Measured) -> None:
        self._requests = requests
        self._measured = measured
        self._counts_from = time.perf_counter() + plan.warm_seconds
        self._ends = time.perf_counter() + plan.warm_seconds + plan.seconds
        self._received = bytearray()
        self._body_at = -1
        self._length = -1
        self._sent = self._first = 0.0
        self._transport: asyncio.Transport
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._measured.broken += 1
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._body_at < 0:
            end = self._received.find(_HEAD_END)
            if end < 0:
                return
            self._body_at = end + len(_HEAD_END)
            _, found, rest = bytes(self._received[:end]).lower().partition(b"content-length:")
            self._length = int(rest.split(b"\r\n", 1)[0]) if found else -1
        if not self._first and len(self._received) > self._body_at:
            self._first = time.perf_counter()
        if self._length >= 0:
            whole = len(self._received) >= self._body_at + self._length
        else:
            whole = self._received.endswith(_CHUNKED_END)
        if whole:
            self._answered()

    def _send(self) -> None:
        self._received.clear()
        self._body_at, self._first = -1, 0.0
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))

    def _answered(self) -> None:
        now = time.perf_counter()
        if self._counts_from <= now < self._ends:
            self._measured.latencies_ms.append((now - self._sent) * 1000)
            self._measured.first_ms.append((self._first - self._sent) * 1000)
            status = int(self._received[9:12])
            self._measured.statuses[status] = self._measured.statuses.get(status, 0) + 1
        if now < self._ends:
            self._send()
        else:
            self.ended.set_result(None)
            self._transport.abort()


async def _run(plan: Plan) -> Measured:
    measured = Measured(seconds=plan.seconds)
    requests = itertools.cycle([request.encode() for request in plan.requests])
    gc.freeze()
    gc.disable()
    loop = asyncio.get_running_loop()
    made = await asyncio.gather(
        *(
            loop.create_connection(
                lambda: _Connection(plan, requests, measured), "127.0.0.1", plan.port
            )
            for _ in range(plan.connections)
        )
    )
    await asyncio.gather(*(connection.ended for _, connection in made))
    return measured


def measure(plan: Plan, *, cores: str) -> Measured:
    """Runs the generator on these cores (as taskset names them)."""
    done = subprocess.run(
        ["taskset", "-c", cores, sys.executable, "-m", "bench.gate_load"],
        input=json.dumps(asdict(plan)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=plan.seconds + _LONGEST_ANSWER_SECONDS,
    )
    read: dict[str, Any] = json.loads(done.stdout)
    statuses = {int(status): count for status, count in read.pop("statuses").items()}
    return Measured(**read, statuses=statuses)


def main() -> None:
    read: dict[str, Any] = json.loads(sys.stdin.read())
    plan = Plan(**read | {"requests": tuple(read["requests"])})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured = runner.run(_run(plan))
    # Buffered, whatever PYTHONUNBUFFERED says: an unbuffered print ends at what the pipe takes.
    with open(sys.stdout.fileno(), "w", closefd=False) as out:
        json.dump(asdict(measured), out)


if __name__ == "__main__":
    main()
