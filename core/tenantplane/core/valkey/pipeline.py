"""Calls of one turn of the event loop leave together, on one connection, in one write.

A round trip costs the client more than the server: with sixteen callers at a time, one pipeline
for all costs less than a third of sixteen commands. Nobody waits for it: what is asked in one turn
of the loop leaves at its end. Answers are handed out as they are read: a task, a time-out and a look
at the connection for each pipeline, with a time-out for each call, took more than half of the client's
time (an admission and its settlement: 120 µs of CPU with them, 48 µs without, 64 callers).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import hiredis
from redis._parsers import BaseParser
from redis.exceptions import InvalidResponse, RedisError

# Commands of one pipeline: the last answer waits for the first, some 20 µs each.
MOST_COMMANDS = 128

_INCOMPLETE = object()


class Dialled(Protocol):
    """What is used of redis-py's connections, which their stubs leave untyped."""

    _reader: asyncio.StreamReader | None
    _writer: asyncio.StreamWriter | None

    async def connect(self) -> None: ...

    async def disconnect(self, nowait: bool = False) -> None: ...


class _Asked:
    """A command on its way: `calls` of how many callers, of which `since` (the loop's seconds) is when
    the first asked."""

    __slots__ = ("answer", "calls", "packed", "repeated", "since")

    def __init__(
        self, packed: bytes, answer: asyncio.Future[Any] | _Answers, since: float, calls: int = 1
    ) -> None:
        self.packed = packed
        self.answer = answer
        self.since = since
        self.calls = calls
        self.repeated = False


class _Answers:
    """The answer to a command that many callers share, in whose place it stands for a future."""

    __slots__ = ("_each",)

    def __init__(self, each: list[asyncio.Future[Any]]) -> None:
        self._each = each

    def done(self) -> bool:
        return all(answer.done() for answer in self._each)

    def set_result(self, replies: list[Any]) -> None:
        if len(replies) != len(self._each):
            self.set_exception(InvalidResponse("the library answers other calls than were asked"))
            return
        for answer, reply in zip(self._each, replies, strict=True):
            if answer.done():  # its caller has given up
                continue
            if isinstance(reply, RedisError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

    def set_exception(self, lost: Exception) -> None:
        for answer in self._each:
            if not answer.done():
                answer.set_exception(lost)


class _Shared:
    """Calls of one function on one root that leave as one command, by the keys of their holds."""

    __slots__ = ("asked", "function", "root_keys", "since")

    def __init__(self, function: str, root_keys: tuple[str, ...], since: float) -> None:
        self.function = function
        self.root_keys = root_keys
        self.since = since
        self.asked: dict[str, tuple[str, asyncio.Future[Any]]] = {}

    def packed(self) -> _Asked | None:
        """None where all callers have given up."""
        asked = {hold: one for hold, one in self.asked.items() if not one[1].done()}
        if not asked:
            return None
        keys = (*self.root_keys, *asked)
        arguments = [argument for argument, _ in asked.values()]
        packed = hiredis.pack_command(("FCALL", self.function, len(keys), *keys, *arguments))  # type: ignore[arg-type]  # knows tuples of one alone
        answers = _Answers([answer for _, answer in asked.values()])
        return _Asked(packed, answers, self.since, len(asked))


class _Connection(asyncio.Protocol):
    """Answers what was asked, in its order."""

    def __init__(self, dialled: Dialled, ended: Callable[[_Connection], None]) -> None:
        self.asked: deque[_Asked] = deque()
        self._ended = ended
        self._replies = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=BaseParser.parse_error,
            notEnoughData=_INCOMPLETE,
        )
        assert dialled._writer is not None, "it is connected"
        # Kept until the connection ends: a writer closes what it wrote to when it is forgotten.
        self._writer = dialled._writer
        dialled._reader = dialled._writer = None
        self._transport = self._writer.transport
        self._transport.set_protocol(self)

    def send(self, asked: list[_Asked]) -> None:
        self.asked.extend(asked)
        self._transport.write(b"".join([each.packed for each in asked]))

    def abort(self) -> None:
        self._transport.abort()
        self._ended(self)

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not _INCOMPLETE:
                # An answer that nobody has asked for must not become that of a later command.
                answer = self.asked.popleft().answer
                if answer.done():  # its caller has given up
                    continue
                if isinstance(reply, RedisError):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
        except (IndexError, RedisError):
            self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ended(self)


class Pipelines:
    """The commands of one process to one server. Only for commands that may be repeated.

    `dial` makes connections of redis-py, which open one and prove who we are; then it is this
    object's. `sent` counts round trips.
    """

    def __init__(self, dial: Callable[[], Dialled], *, timeout_seconds: float) -> None:
        self._dial = dial
        self._timeout_seconds = timeout_seconds
        self._connection: _Connection | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._waiting: deque[_Asked] = deque()
        self._shared: dict[tuple[str, str], _Shared] = {}
        self._leaving = False
        self._turn = 0.0  # of the loop in which what waits was asked: its clock is read once
        self._watch: asyncio.TimerHandle | None = None
        self.sent = 0

    def call(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """The server's reply. Fails by its error where it answers one (ResponseError), and by
        RedisError, OSError or TimeoutError (after `timeout_seconds` in all) where the answer was
        lost: whether the command took effect is unknown then."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # knows tuples of one alone
        self._leave_soon(loop)
        self._waiting.append(_Asked(packed, answer, self._turn))
        return answer

    def share(
        self, function: str, root_keys: tuple[str, ...], hold_key: str, argument: str
    ) -> asyncio.Future[Any]:
        """As call(), of a library function that takes many calls of one root, a hold and an argument
        each, and answers each (lua/calls.lua): those of one turn of the loop leave as one command."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        of = (function, root_keys[0])
        shared = self._shared.get(of)
        self._leave_soon(loop)
        if shared is None or hold_key in shared.asked or len(shared.asked) == MOST_COMMANDS:
            self._gather(shared)
            shared = self._shared[of] = _Shared(function, root_keys, self._turn)
        shared.asked[hold_key] = argument, answer
        return answer

    def _leave_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._leaving:
            self._leaving = True
            self._turn = loop.time()
            loop.call_soon(self._leave)

    def _gather(self, shared: _Shared | None) -> None:
        packed = shared and shared.packed()
        if packed:
            self._waiting.append(packed)

    async def close(self) -> None:
        """Ends the connection; calls under way fail."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)
        connection, self._connection = self._connection, None
        self._gather_all()
        asked = [*(connection.asked if connection else ()), *self._waiting]
        self._waiting.clear()
        _fail(asked, ConnectionAbortedError("the pipeline was closed"))
        if connection is not None:
            connection.abort()

    def _gather_all(self) -> None:
        for shared in self._shared.values():
            self._gather(shared)
        self._shared.clear()

    def _leave(self) -> None:
        self._leaving = False
        self._gather_all()
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        if self._watch is None:
            self._watch = loop.call_later(self._timeout_seconds, self._give_up)
        if self._connection is None:
            if self._dialling is None:
                self._dialling = loop.create_task(self._connect())
            return
        while self._waiting:
            asked, calls = [], 0
            while self._waiting and calls + self._waiting[0].calls <= MOST_COMMANDS:
                each = self._waiting.popleft()
                calls += each.calls
                if not each.answer.done():  # its caller has not given up
                    asked.append(each)
            if asked:
                self.sent += 1
                self._connection.send(asked)

    async def _connect(self) -> None:
        dialled = self._dial()
        try:
            await dialled.connect()
            self._connection = _Connection(dialled, self._lost)
        except (RedisError, OSError, TimeoutError) as error:
            _fail(self._waiting, error)
            self._waiting.clear()
            await dialled.disconnect(nowait=True)
        except BaseException:
            await dialled.disconnect(nowait=True)
            raise
        finally:
            if self._dialling is asyncio.current_task():
                self._dialling = None
        self._leave()

    def _lost(self, connection: _Connection) -> None:
        """A server that has restarted closed it, which is noticed at the first command after: what
        was under way is asked once more, and fails if that is lost too."""
        if self._connection is not connection:
            return
        self._connection = None
        _fail(
            (asked for asked in connection.asked if asked.repeated),
            ConnectionResetError("the server closed the connection"),
        )
        again = [asked for asked in connection.asked if not asked.repeated]
        for asked in again:
            asked.repeated = True
        self._waiting.extendleft(reversed(again))
        self._leave()

    def _give_up(self) -> None:
        """Fails all that has been under way for too long; one timer looks after all of them, since
        setting and clearing one for each pipeline costs more than sending it."""
        self._watch = None
        loop = asyncio.get_running_loop()
        under_way = self._connection.asked if self._connection else self._waiting
        if not under_way:
            return
        left = under_way[0].since + self._timeout_seconds - loop.time()
        if left > 0:
            self._watch = loop.call_later(left, self._give_up)
            return
        connection, self._connection = self._connection, None
        _fail([*under_way, *self._waiting], TimeoutError("no answer in time"))
        self._waiting.clear()
        if connection is not None:
            connection.abort()
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None


def _fail(asked: Iterable[_Asked], lost: Exception) -> None:
    for each in asked:
        if not each.answer.done():
            each.answer.set_exception(lost)
