"""Whether this replica can serve: by doing what requests do, not by pinging."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from tenantplane.core.errors import TenantplaneError
from tenantplane.dataplane.gate.entitlements import Entitlements

_log = logging.getLogger(__name__)

# The longest offline time that any org may have: past it no request can be served here. A shorter
# bound would take a plane out of service that is only cut off, and serves (R86).
LONGEST_OFFLINE_SECONDS = 86_400.0
# Whoever asks more often gets the last answer: the probe is open to all.
_KEPT_SECONDS = 1.0

Probe = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Readiness:
    """`checks` by name: "ok", or what is wrong."""

    ready: bool
    checks: Mapping[str, str]


class ReadinessProbe:
    """`probes` do a request's work on each store; `notes` are shown, and decide nothing: a plane
    whose background tasks are in trouble serves on, and must."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        entitlements: Entitlements,
        notes: Callable[[], Mapping[str, str]],
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probes = dict(probes)
        self._entitlements = entitlements
        self._notes = notes
        self._elapsed = elapsed
        self._last: tuple[float, Readiness] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def check(self) -> Readiness:
        async with self._one_at_a_time:
            if self._last is None or self._elapsed() - self._last[0] >= _KEPT_SECONDS:
                self._last = (self._elapsed(), await self._look())
            return self._last[1]

    async def _look(self) -> Readiness:
        names = list(self._probes)
        results = await asyncio.gather(*(_result(self._probes[name]) for name in names))
        checks = dict(zip(names, results, strict=True)) | {"entitlements": self._freshness()}
        ready = all(result == "ok" for result in checks.values())
        return Readiness(ready, checks | dict(self._notes()))

    def _freshness(self) -> str:
        age = self._entitlements.beacon_age_seconds()
        if age is None:
            return "never synced: see the log of peering"
        if age > LONGEST_OFFLINE_SECONDS:
            return f"the control plane has been silent for {age:.0f} s"
        return "ok"


async def _result(probe: Probe) -> str:
    try:
        await probe()
    except TenantplaneError as failed:
        return failed.error_code
    except Exception as failed:  # noqa: BLE001 (whatever it is, requests would meet it too)
        # The type alone: whoever may ask is anybody.
        _log.warning("a readiness probe failed", exc_info=failed)
        return type(failed).__name__
    return "ok"
