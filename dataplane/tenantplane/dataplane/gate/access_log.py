"""One line for each request; of refusals for want of quota, a bounded number a second and org.

A tenant far over its quota would otherwise write its neighbours' log, and take a third of the time
that its refusals cost. What was left out is counted in the org's next line, so nothing is hidden.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_access = logging.getLogger("tenantplane.access")

REFUSALS_A_SECOND = 10
# 402 hard cap, 429 quota or soft cap: what comes by the thousand from a client that does not wait.
_OVER_QUOTA = frozenset({402, 429})


@dataclass(slots=True)
class _Refusals:
    second: int  # of the clock `elapsed`
    logged: int = 0
    left_out: int = 0


class AccessLog:
    """`elapsed` counts seconds."""

    def __init__(self, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._elapsed = elapsed
        self._refusals: dict[str, _Refusals] = {}

    def write(self, org_id: str | None, status: int | None, facts: Mapping[str, object]) -> None:
        """`org_id` None: nobody is proven, and each such request has its line."""
        left_out = 0
        if org_id is not None:
            if status in _OVER_QUOTA and not self._room(org_id):
                return
            left_out = self._take_left_out(org_id)
        extra = {"refusals_not_logged": left_out} if left_out else {}
        _access.info("request", extra={**facts, **extra})

    def _room(self, org_id: str) -> bool:
        second = int(self._elapsed())
        seen = self._refusals.setdefault(org_id, _Refusals(second))
        if seen.second != second:
            seen.second, seen.logged = second, 0
        if seen.logged >= REFUSALS_A_SECOND:
            seen.left_out += 1
            return False
        seen.logged += 1
        return True

    def _take_left_out(self, org_id: str) -> int:
        seen = self._refusals.get(org_id)
        if seen is None:
            return 0
        left_out, seen.left_out = seen.left_out, 0
        return left_out
