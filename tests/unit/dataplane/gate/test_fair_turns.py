"""Turns by org, on a clock and timers of the test's own: bounds in turns, never in wall time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable

import pytest

from tenantplane.core.errors import RateLimited
from tenantplane.dataplane.gate.fair_turns import (
    MOST_BUSY,
    MOST_PAUSES,
    NEIGHBOUR_SECONDS,
    Busy,
    FairTurns,
)

# So many of a backlog go on beside one request of another org before the rest wait: the first that
# are clearly more than an even share, and more than chance.
AT_ONCE = 13


class Loop:
    """Timers that fire when the test says so, `late` seconds after they are due."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.late = 0.0
        self.busy = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def elapsed(self) -> float:
        return self.seconds

    def call_later(self, seconds: float, function: Callable[..., None], *arguments: object) -> None:
        timer = (self.seconds + seconds, next(self._numbers), lambda: function(*arguments))
        heapq.heappush(self._timers, timer)

    async def fire(self) -> None:
        """The next timer, and whatever becomes ready by it."""
        due, _, function = heapq.heappop(self._timers)
        self.seconds = max(self.seconds, due) + self.late
        function()
        await settle()

    async def fire_all(self) -> None:
        while self._timers:
            await self.fire()

    def turns(self, *, most_waiting: int = 1000) -> FairTurns:
        return FairTurns(
            most_waiting=most_waiting,
            elapsed=self.elapsed,
            busy=lambda: self.busy,
            call_later=self.call_later,
        )


async def settle() -> None:
    """What is ready runs, and what becomes ready by it."""
    for _ in range(3):
        await asyncio.sleep(0)


class Crowd:
    """Requests that ask for a turn; `came` counts whose turn has come."""

    def __init__(self, turns: FairTurns) -> None:
        self._turns = turns
        self.came: Counter[str] = Counter()
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, org_id: str, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._one(org_id)) for _ in range(times)]
        await settle()

    async def _one(self, org_id: str) -> None:
        await self._turns.turn(org_id)
        self.came[org_id] += 1


async def test_five_hundred_at_once_delay_a_neighbour_by_no_turn() -> None:
    loop = Loop()
    crowd = Crowd(loop.turns())
    await crowd.ask("quiet")
    await crowd.ask("noisy", 500)
    assert crowd.came == {"quiet": 1, "noisy": AT_ONCE}
    # The others wait, a pause is over, and the quiet one has its turn at once again.
    await loop.fire()
    await crowd.ask("quiet")
    assert crowd.came["quiet"] == 2
    assert crowd.came["noisy"] <= AT_ONCE + 1
    await loop.fire_all()
    assert crowd.came["noisy"] == 500


async def test_stuck_requests_hold_no_turn() -> None:
    """A turn is to begin: what waits for a model or a tool afterwards is in nobody's way."""
    loop = Loop()
    turns = loop.turns()
    await turns.turn("quiet")
    stuck = [asyncio.create_task(stay(turns, "noisy")) for _ in range(500)]
    await settle()
    await loop.fire_all()
    assert not any(task.done() for task in stuck)
    assert len(turns) == 0
    assert await turns.turn("noisy") is False
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)


async def stay(turns: FairTurns, org_id: str) -> None:
    await turns.turn(org_id)
    await asyncio.Event().wait()


async def test_whoever_asks_for_an_even_share_goes_on_at_once_in_the_busiest_process() -> None:
    loop = Loop()
    loop.busy = 1.0
    crowd = Crowd(loop.turns())
    for _ in range(50):
        for number in range(10):
            await crowd.ask(f"org-{number}")
    assert set(crowd.came.values()) == {50}
    # One of them that asks for as much as all the others has the rest in its turn.
    await crowd.ask("org-0", 450)
    assert crowd.came["org-0"] < 100
    await crowd.ask("org-1")
    assert crowd.came["org-1"] == 51
    await loop.fire_all()
    assert crowd.came["org-0"] == 500


async def test_a_burst_of_one_among_many_is_in_nobodys_way() -> None:
    loop = Loop()
    crowd = Crowd(loop.turns())
    for number in range(300):
        await crowd.ask(f"org-{number}")
    await crowd.ask("org-7", 10)
    assert crowd.came["org-7"] == 11
    # Many more than that wait.
    await crowd.ask("org-7", 100)
    assert crowd.came["org-7"] < 30


async def test_without_a_neighbour_all_go_on_at_once() -> None:
    loop = Loop()
    turns = loop.turns()
    assert not any([await turns.turn("alone") for _ in range(500)])
    assert len(turns) == 0


async def test_a_backlog_is_let_go_when_its_neighbours_are_gone() -> None:
    loop = Loop()
    crowd = Crowd(loop.turns())
    await crowd.ask("quiet")
    await crowd.ask("noisy", 100)
    loop.seconds += NEIGHBOUR_SECONDS
    await loop.fire()
    await loop.fire()
    assert crowd.came["noisy"] == 100


@pytest.mark.parametrize("trouble", ["late", "busy"])
async def test_a_backlog_waits_for_time_to_spare_and_gets_on_all_the_same(trouble: str) -> None:
    loop = Loop()
    loop.late = 0.1 if trouble == "late" else 0.0
    loop.busy = MOST_BUSY + 0.1 if trouble == "busy" else 0.0
    crowd = Crowd(loop.turns())
    await crowd.ask("quiet")
    await crowd.ask("noisy", AT_ONCE + 2)
    for _ in range(MOST_PAUSES - 1):
        await loop.fire()
    assert crowd.came["noisy"] == AT_ONCE
    await loop.fire()
    assert crowd.came["noisy"] == AT_ONCE + 1
    await loop.fire_all()
    assert crowd.came["noisy"] == AT_ONCE + 2


async def test_first_come_first_served() -> None:
    loop = Loop()
    turns = loop.turns()
    await turns.turn("quiet")
    came: list[int] = []

    async def one(number: int) -> None:
        await turns.turn("noisy")
        came.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(20)]
    await settle()
    await loop.fire_all()
    await asyncio.gather(*tasks)
    assert came == list(range(20))


async def test_whoever_gives_up_takes_no_turn_of_the_others() -> None:
    loop = Loop()
    crowd = Crowd(loop.turns())
    await crowd.ask("quiet")
    await crowd.ask("noisy", AT_ONCE + 8)
    for task in crowd.tasks[-8:-1]:
        task.cancel()
    await settle()
    await loop.fire()
    assert crowd.came["noisy"] == AT_ONCE + 1
    await loop.fire_all()
    assert crowd.came["noisy"] == AT_ONCE + 1


async def test_a_queue_is_bounded_and_the_next_one_is_refused() -> None:
    loop = Loop()
    turns = loop.turns(most_waiting=5)
    crowd = Crowd(turns)
    await crowd.ask("quiet")
    await crowd.ask("noisy", AT_ONCE + 5)
    with pytest.raises(RateLimited) as refused:
        await turns.turn("noisy")
    assert refused.value.error_code == "too_many_waiting"
    assert refused.value.headers() == {"retry-after": "1"}
    assert await turns.turn("third") is False
    await loop.fire_all()
    assert crowd.came["noisy"] == AT_ONCE + 5


async def test_nothing_is_kept_of_orgs_that_are_gone() -> None:
    loop = Loop()
    turns = loop.turns()
    for number in range(100):
        await turns.turn(f"org-{number}")
    await loop.fire_all()
    assert len(turns) == 0


def test_busy_is_what_the_process_used_of_late() -> None:
    seconds, used = 0.0, 0.0
    busy = Busy(lambda: seconds, lambda: used)
    for _ in range(100):
        seconds, used = seconds + 0.01, used + 0.008
        share = busy.share()
    assert share == pytest.approx(0.8, abs=0.01)
    seconds += 1.0
    assert busy.share() == 0.0
