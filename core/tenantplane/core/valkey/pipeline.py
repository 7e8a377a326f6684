"""Calls of one turn of the event loop leave together, on one connection, in one write.

A round trip costs the client more than the server: with sixteen callers at a time, one pipeline
for all costs less than a third of sixteen commands. Nobody waits for it: what is asked in one turn
of the loop leaves at its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import hiredis
from redis.exceptions import RedisError

# Commands of one pipeline: the last answer waits for the first, some 20 µs each.
MOST_COMMANDS = 128
# Pipelines under way at a time. The server has one thread: more would only queue there.
MOST_CONNECTIONS = 4

_Waiting = tuple[bytes, "asyncio.Future[Any]"]


class Connection(Protocol):
    """What is used of redis-py's connections, which their stubs leave untyped."""

    @property
    def is_connected(self) -> bool: ...

    async def connect(self) -> None: ...

    async def disconnect(self, nowait: bool = False) -> None: ...

    async def can_read(self) -> bool: ...

    async def send_packed_command(
        self, command: list[bytes], check_health: bool = True
    ) -> None: ...

    async def read_response(self) -> Any: ...


class Pipelines:
    """The commands of one process to one server. Only for commands that may be repeated.

    `connection` makes connections of this object's own, which have no time-out of their own: a
    whole pipeline has one. `sent` counts round trips.
    """

    def __init__(self, connection: Callable[[], Connection], *, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._idle: list[Connection] = []
        self._busy: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Waiting] = deque()
        self._leaving = False
        self.sent = 0

    async def call(self, *command: bytes | str | int) -> Any:
        """The server's reply. Raises its error where it answers one (ResponseError), and RedisError,
        OSError or TimeoutError where the answer of this pipeline was lost: whether the command took
        effect is unknown then. Bound it by a time-out: it may wait for those before it."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # knows tuples of one alone
        self._waiting.append((packed, answer))
        if not self._leaving:
            self._leaving = True
            loop.call_soon(self._leave)
        return await answer

    async def close(self) -> None:
        """Ends all connections; calls under way fail."""
        for task in tuple(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        for connection in self._idle:
            await connection.disconnect()
        self._idle.clear()

    def _leave(self) -> None:
        self._leaving = False
        while self._waiting and len(self._busy) < MOST_CONNECTIONS:
            batch = [
                waiting
                for waiting in (
                    self._waiting.popleft() for _ in range(min(MOST_COMMANDS, len(self._waiting)))
                )
                if not waiting[1].done()  # its caller has given up
            ]
            if batch:
                task = asyncio.get_running_loop().create_task(self._send(batch))
                self._busy.add(task)
                task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        if self._waiting:
            self._leave()

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        connection = self._idle.pop() if self._idle else self._connection()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await _ready(connection)
                self.sent += 1
                await connection.send_packed_command(
                    [command for command, _ in batch], check_health=False
                )
                for _, answer in batch:
                    await _receive(connection, answer)
        except (RedisError, OSError, TimeoutError) as lost:
            await connection.disconnect(nowait=True)
            _fail(batch, lost)
        except BaseException:
            # This process ends: what was under way is not known.
            await connection.disconnect(nowait=True)
            _fail(batch, ConnectionAbortedError("the pipeline was closed"))
            raise
        else:
            self._idle.append(connection)


async def _ready(connection: Connection) -> None:
    """Connected, and nothing on it that nobody has asked for: a server that has restarted closed
    it, and an answer of an earlier command must not become that of a later one."""
    await connection.connect()
    try:
        stale = await connection.can_read()
    except (RedisError, OSError):
        stale = True
    if stale:
        await connection.disconnect()
        await connection.connect()


async def _receive(connection: Connection, answer: asyncio.Future[Any]) -> None:
    """An error that the server answers is its caller's alone; the next answers follow it."""
    try:
        reply = await connection.read_response()
    except RedisError as error:
        if not connection.is_connected:
            raise
        if not answer.done():
            answer.set_exception(error)
    else:
        if not answer.done():
            answer.set_result(reply)


def _fail(batch: Sequence[_Waiting], lost: BaseException) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(lost)
