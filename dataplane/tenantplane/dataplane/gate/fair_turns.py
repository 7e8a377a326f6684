"""Turns by org on one event loop: hundreds of requests of one org at once wait in a queue of its
own, and everybody else's next step waits for a few of them, not for hundreds (R7).

    an even share    whoever asks for no more than the others do goes on at once, however busy it is
    more than that   one of an org goes on at once; more are let in, one at a time, while the process
                     has time to spare: a backlog takes what the others leave

What a request costs shows in the process's own time, so nothing has to be guessed beforehand: a
refusal is cheap and a backlog of them moves at some hundreds a second, a call is dear and moves as
fast as there is time for it. No limit on what runs: a model or a tool that is waited for takes no
time of the loop, and no turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tenantplane.core.errors import RateLimited

# One connection holds one request, so this is a flood of connections.
MOST_WAITING = 2000
# What orgs ask for is compared over this long: an org not seen since is no neighbour now.
NEIGHBOUR_SECONDS = 10.0
# So much more than an even share, and so many turns, are chance and no backlog.
_UNEVEN = 1.25
_CHANCE = 4
# Less than this of all that is asked for is in nobody's way: of a thousand orgs, each has its bursts.
_SMALL_SHARE = 0.05
# Between two turns of an org: time for the others' next steps.
PAUSE_SECONDS = 0.002
# A timer that fires so late says that the loop has more to do than time, or the machine has.
LATE_SECONDS = 0.001
# A backlog may fill the process up to this: queues in front of each step grow steeply beyond it.
MOST_BUSY = 0.5
# A process that never has time to spare lets a backlog get on all the same: some 20 turns a second.
MOST_PAUSES = 25

CallLater = Callable[..., object]  # as the loop's: seconds, a function, its arguments


@dataclass(slots=True)
class _Queue:
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Busy:
    """The share of one core that this process used of late: 0 idle, 1 all of it."""

    # Some dozens of steps: shorter is noise, longer lets a burst through before it shows.
    _OF_LATE_SECONDS = 0.05

    def __init__(
        self,
        elapsed: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._elapsed = elapsed
        self._used = used
        self._last = (elapsed(), used())
        self._share = 0.0

    def share(self) -> float:
        now, used = self._elapsed(), self._used()
        seconds = now - self._last[0]
        if seconds > 0:
            weight = min(1.0, seconds / self._OF_LATE_SECONDS)
            self._share += weight * ((used - self._last[1]) / seconds - self._share)
            self._last = (now, used)
        return self._share


class Demand:
    """Who asked for how many turns of late: in this half of NEIGHBOUR_SECONDS and in the last."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._now: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._total = self._total_before = 0
        self._orgs = 0  # in either half
        self._ends = elapsed() + NEIGHBOUR_SECONDS / 2

    def note(self, org_id: str) -> None:
        if self._elapsed() >= self._ends:
            self._next_half()
        if org_id not in self._now and org_id not in self._before:
            self._orgs += 1
        self._now[org_id] += 1
        self._total += 1

    def is_uneven(self, org_id: str, waiting: int) -> bool:
        """Whether an org with so many that wait asks for clearly more than its even share."""
        if self._elapsed() >= self._ends:
            self._next_half()
        asked = self._now[org_id] + self._before[org_id] + waiting
        total = self._total + self._total_before + waiting
        even = total * max(_UNEVEN / max(1, self._orgs), _SMALL_SHARE)
        return asked > even + _CHANCE

    def _next_half(self) -> None:
        now = self._elapsed()
        forgotten = now >= self._ends + NEIGHBOUR_SECONDS / 2
        self._before = Counter() if forgotten else self._now
        self._total_before = 0 if forgotten else self._total
        self._now, self._total = Counter(), 0
        self._orgs = len(self._before)
        self._ends = now + NEIGHBOUR_SECONDS / 2


class FairTurns:
    """Of one event loop. `elapsed` counts seconds, `busy` answers the share of a core in use;
    `call_later` is the running loop's where none is given."""

    def __init__(
        self,
        *,
        most_waiting: int = MOST_WAITING,
        elapsed: Callable[[], float] = time.monotonic,
        busy: Callable[[], float] | None = None,
        call_later: CallLater | None = None,
    ) -> None:
        self._most_waiting = most_waiting
        self._elapsed = elapsed
        self._busy = busy or Busy().share
        self._call_later = call_later
        self._demand = Demand(elapsed)
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        """Orgs whose next turn is not at once."""
        return len(self._queues)

    async def turn(self, org_id: str) -> bool:
        """Returns when it is the org's turn; True where it had to wait, so that what was known
        before may be old. Raises RateLimited (`too_many_waiting`)."""
        self._demand.note(org_id)
        queue = self._queues.get(org_id)
        waiting = len(queue.waiting) if queue else 0
        uneven = self._demand.is_uneven(org_id, waiting)
        if queue is None or not (uneven or waiting):
            if uneven:
                self._queues[org_id] = _Queue()
                self._pause(org_id, 1)
            return False
        if waiting >= self._most_waiting:
            raise _too_many(org_id, self._most_waiting)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.waiting.append(turn)
        await turn
        return True

    def _pause(self, org_id: str, number: int) -> None:
        later = self._call_later or asyncio.get_running_loop().call_later
        later(PAUSE_SECONDS, self._after_pause, org_id, number, self._elapsed() + PAUSE_SECONDS)

    def _after_pause(self, org_id: str, number: int, due: float) -> None:
        waiting = self._queues[org_id].waiting
        uneven = self._demand.is_uneven(org_id, len(waiting))
        if waiting and uneven and number < MOST_PAUSES and not self._has_time(due):
            self._pause(org_id, number + 1)
        elif self._let_in(waiting, 1 if uneven else len(waiting)):
            self._pause(org_id, 1)
        else:
            del self._queues[org_id]

    def _has_time(self, due: float) -> bool:
        return self._elapsed() - due <= LATE_SECONDS and self._busy() <= MOST_BUSY

    def _let_in(self, waiting: deque[asyncio.Future[None]], most: int) -> int:
        """How many were let in; those who gave up take no turn."""
        let_in = 0
        while waiting and let_in < most:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                let_in += 1
        return let_in


def _too_many(org_id: str, most: int) -> RateLimited:
    return RateLimited(
        f"{most} requests of org {org_id!r} wait here already.",
        hint="Send fewer at once; each is answered in its turn.",
        code="too_many_waiting",
        retry_after_seconds=1,
    )
