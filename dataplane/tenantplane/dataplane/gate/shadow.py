"""Limits in shadow: what they would have refused is counted and told in the log, and served.

A tenant over its limit would write a line for each of its calls: it is one a second and org, which
says how many it stands for.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenantplane.core.telemetry.attributes import ORG_ID
from tenantplane.core.valkey.answers import Refused

_log = logging.getLogger("tenantplane.shadow")

# Orgs that are counted; past it the one that was seen longest ago is forgotten.
CAPACITY = 10_000
_BETWEEN_LINES_SECONDS = 1.0


@dataclass(slots=True)
class _Seen:
    logged_at: float  # of the clock `elapsed`
    calls: int = 0
    not_logged: int = 0


class ShadowReport:
    """Of one process. `elapsed` counts seconds."""

    def __init__(
        self, elapsed: Callable[[], float] = time.monotonic, capacity: int = CAPACITY
    ) -> None:
        self._elapsed = elapsed
        self._capacity = capacity
        self._orgs: OrderedDict[str, _Seen] = OrderedDict()

    def calls(self, org_id: str) -> int:
        """How many calls would have been refused since this process began to count the org."""
        seen = self._orgs.get(org_id)
        return seen.calls if seen else 0

    def note(self, org_id: str, shadowed: Sequence[Refused]) -> None:
        """One call that was admitted; nothing where no limit stood against it."""
        if not shadowed:
            return
        now = self._elapsed()
        seen = self._orgs.setdefault(org_id, _Seen(now - _BETWEEN_LINES_SECONDS))
        self._orgs.move_to_end(org_id)
        while len(self._orgs) > self._capacity:
            self._orgs.popitem(last=False)
        seen.calls += 1
        seen.not_logged += 1
        if now - seen.logged_at >= _BETWEEN_LINES_SECONDS:
            facts = {ORG_ID: org_id, "calls": seen.not_logged, "limits": [*map(_told, shadowed)]}
            _log.info("limits in shadow would have refused", extra=facts)
            seen.logged_at, seen.not_logged = now, 0


def _told(refused: Refused) -> dict[str, str | int | None]:
    return {
        "reason": refused.reason.value,
        "level": refused.level_kind,
        "level_id": refused.level_id,
        "period": refused.period,
        "limit": refused.limit,
        "used": refused.used,
    }
