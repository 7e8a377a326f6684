"""When calls that are likely to fail are not made for a while (circuit breaker; Nygard, "Release
It!", 2007). Pure: whoever asks says what time it is, in seconds of a clock that only goes forward.

    closed   all calls are made; opens where too many of the recent ones failed
    open     no call is made until the pause ends; then one call in each pause tries

A trial that succeeds closes the breaker, one that fails begins a new pause. One that neither
succeeds nor fails (its caller left) leaves the next one free at once, and one that hangs keeps the
others out for one pause alone.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto


class Outcome(Enum):
    """What a call says about who was called."""

    SUCCESS = auto()
    FAILURE = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """Opens where `failure_percent` of the recent calls failed, of `least_calls` at least. Recent
    is what ended in the last `window_seconds`, or in the later half of them."""

    failure_percent: float
    least_calls: int
    window_seconds: float
    open_seconds: float


class Breaker:
    """`begin` and `end` for each call; `end` exactly once, with what `begin` answered."""

    __slots__ = ("_calls", "_failures", "_half", "_open_until", "_rules")

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._open_until: float | None = None
        # Counts of the half window of this number, and of the one before it.
        self._half = 0
        self._calls = [0, 0]
        self._failures = [0, 0]

    @property
    def is_open(self) -> bool:
        return self._open_until is not None

    def wait_seconds(self, now: float) -> float:
        """How long no call may be made; 0 where one may begin."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def begin(self, now: float) -> bool:
        """A call begins, which `wait_seconds` allowed. True: it is the trial of this pause."""
        if self._open_until is None:
            return False
        self._open_until = now + self._rules.open_seconds
        return True

    def end(self, now: float, outcome: Outcome, *, trial: bool) -> bool:
        """A call ended. True: with it the breaker opened, or closed."""
        was_closed = self._open_until is None
        if was_closed:
            self._count(now, outcome)
        elif trial:
            self._end_trial(now, outcome)
        # Calls from before the pause say nothing about whether it can end.
        return (self._open_until is None) is not was_closed

    def _end_trial(self, now: float, outcome: Outcome) -> None:
        if outcome is Outcome.SUCCESS:
            self._open_until = None
            self._calls, self._failures = [0, 0], [0, 0]
        else:
            pause = self._rules.open_seconds if outcome is Outcome.FAILURE else 0.0
            self._open_until = now + pause

    def _count(self, now: float, outcome: Outcome) -> None:
        if outcome is Outcome.NOTHING:
            return
        self._move_to(int(now // (self._rules.window_seconds / 2)))
        self._calls[0] += 1
        if outcome is Outcome.FAILURE:
            self._failures[0] += 1
            if self._fails_too_often():
                self._open_until = now + self._rules.open_seconds

    def _move_to(self, half: int) -> None:
        if half == self._half:
            return
        follows = half == self._half + 1
        self._half = half
        self._calls = [0, self._calls[0] if follows else 0]
        self._failures = [0, self._failures[0] if follows else 0]

    def _fails_too_often(self) -> bool:
        calls, failures = sum(self._calls), sum(self._failures)
        rules = self._rules
        return calls >= rules.least_calls and failures * 100 >= rules.failure_percent * calls


class Breakers:
    """A breaker for each org, as many as `most`: beyond, the one that is idle longest is
    forgotten, and its org begins anew."""

    def __init__(self, rules: BreakerRules, most: int) -> None:
        self._rules = rules
        self._most = most
        self._of_orgs: OrderedDict[str, Breaker] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of_orgs)

    def of(self, org_id: str) -> Breaker:
        breaker = self._of_orgs.get(org_id)
        if breaker is not None:
            self._of_orgs.move_to_end(org_id)
            return breaker
        breaker = self._of_orgs[org_id] = Breaker(self._rules)
        if len(self._of_orgs) > self._most:
            self._of_orgs.popitem(last=False)
        return breaker
