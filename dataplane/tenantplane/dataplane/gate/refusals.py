"""Refusals that are sure to come again, answered without asking the store: a tenant far over its
quota must not pay for each refusal with the time of everybody's Valkey and event loop (R7).

Why this refuses nothing that the store would admit. Requests are counted in a sliding window, and a
count leaves it by time alone: a settlement corrects tokens, never requests. So a window that is
full stays full until the moment that the store names, whoever asks, and that moment is taken here
from before the store was asked. Two things could empty it early:

    another limit    a level is remembered with its limit: under another one it is not known here
    a lost window    a flush or a new epoch starts with empty windows: after `LONGEST_SECONDS`, a
                     thirtieth of the window, one request asks the store again

Nothing is admitted here, so nothing that the store guards is weakened. Suspension, a revoked key
and a stale token are refused before this, by their own names. Limits of tokens and caps depend on
the request and fall when calls are settled: those are never remembered.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.tenancy import TenantContext
from tenantplane.core.valkey.answers import Reason, Refused
from tenantplane.dataplane.gate.admission import caller_levels
from tenantplane.dataplane.gate.refusal_errors import refusal_error

# One bucket of the store's window (lua/window.lua): it is no more exact than that itself.
LONGEST_SECONDS = 2.0
# Levels that are refused at the same moment; past it the oldest are asked for again.
CAPACITY = 10_000

_Level = tuple[str, str, int]  # kind, id and limit of requests a window


@dataclass(frozen=True, slots=True)
class _Full:
    refused: Refused
    until: float  # of the clock `elapsed`: the window has moved on far enough
    known_until: float


class KnownRefusals:
    """Levels whose window of requests is full, of one process. `elapsed` counts seconds."""

    def __init__(
        self, elapsed: Callable[[], float] = time.monotonic, capacity: int = CAPACITY
    ) -> None:
        self._elapsed = elapsed
        self._capacity = capacity
        self._full: OrderedDict[_Level, _Full] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full)

    def now(self) -> float:
        """To be read before the store is asked."""
        return self._elapsed()

    def remember(self, refused: Refused, *, asked_at: float) -> None:
        """Keeps a refusal for want of requests; any other is forgotten at once."""
        if refused.reason is not Reason.REQUESTS or refused.retry_after_ms is None:
            return
        until = asked_at + refused.retry_after_ms / 1000
        key = (refused.level_kind, refused.level_id, refused.limit)
        # What else was in the answer is of that one caller's levels, and of that moment.
        known = replace(refused, windows=())
        self._full[key] = _Full(known, until, min(until, asked_at + LONGEST_SECONDS))
        self._full.move_to_end(key)
        while len(self._full) > self._capacity:
            self._full.popitem(last=False)

    def require_room(self, snapshot: Snapshot, tenant: TenantContext) -> None:
        """Raises RateLimited, as the store would, where a level of the caller is known to be full
        (a level in shadow refuses nothing, whatever it did before)."""
        if not self._full:
            return
        for kind, level_id, limits in caller_levels(snapshot, tenant):
            if limits.requests_per_minute is not None and not limits.shadow:
                self._require_room((kind, level_id, limits.requests_per_minute))

    def _require_room(self, key: _Level) -> None:
        full = self._full.get(key)
        if full is None:
            return
        now = self._elapsed()
        if now >= full.known_until:
            del self._full[key]
            return
        left_ms = max(1, int((full.until - now) * 1000))
        raise refusal_error(replace(full.refused, retry_after_ms=left_ms))
