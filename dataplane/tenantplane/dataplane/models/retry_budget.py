"""How many repeats a provider's calls have earned: so that retries never make an outage worse."""

from __future__ import annotations

from typing import Final

# Repeats that can be saved up, and that a plane begins with: a plane with few calls can repeat one.
MOST_SAVED: Final = 10.0


class RetryBudget:
    """A part of a repeat for each first call, a whole one off for each repeat (Finagle's
    RetryBudget). Over any time: repeats ≤ MOST_SAVED + calls * percent / 100."""

    __slots__ = ("_percent", "_saved_percent")

    def __init__(self, percent: float) -> None:
        self._percent = percent
        # In hundredths of a repeat, so that whole percents add up exactly.
        self._saved_percent = MOST_SAVED * 100 if percent > 0 else 0.0

    @property
    def has_one(self) -> bool:
        return self._saved_percent >= 100

    def earn(self) -> None:
        """A call is made for the first time."""
        self._saved_percent = min(MOST_SAVED * 100, self._saved_percent + self._percent)

    def spend(self) -> None:
        """A call is made again; only where `has_one`."""
        self._saved_percent -= 100
