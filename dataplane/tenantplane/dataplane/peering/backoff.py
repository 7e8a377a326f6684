"""Pauses between attempts that grow, with jitter, so that replicas do not come back as one."""

from __future__ import annotations

import random

_FIRST_SECONDS = 0.2


class Backoff:
    """Full jitter over doubling bounds (aws.amazon.com/blogs/architecture,
    "Exponential Backoff And Jitter")."""

    def __init__(self, longest_seconds: float, first_seconds: float = _FIRST_SECONDS) -> None:
        self._first = min(first_seconds, longest_seconds)
        self._longest = longest_seconds
        self._bound = self._first

    def reset(self) -> None:
        self._bound = self._first

    def next_seconds(self) -> float:
        bound, self._bound = self._bound, min(self._bound * 2, self._longest)
        # Not below a tenth: a refused connection must not become a busy loop.
        return random.uniform(bound / 10, bound)  # noqa: S311 (spreads load, guards nothing)
