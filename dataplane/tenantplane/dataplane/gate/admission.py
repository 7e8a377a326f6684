"""Admission, the pure part: a snapshot's limits as levels with periods.

org, root first   always: its days and months are also where spend is shown
user, key         where the org limits each of its users and keys in some way
run               where the org caps what a run may cost
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from tenantplane.core.apis.snapshot import CapRaise, LevelLimits, Snapshot
from tenantplane.core.apis.snapshot import Level as OrgLimits
from tenantplane.core.derived import Derived
from tenantplane.core.tenancy import TenantContext
from tenantplane.core.valkey.answers import WindowUse
from tenantplane.core.valkey.requests import Level, Period, Slot
from tenantplane.dataplane.gate.periods import days, months, whole_run

# What the plane does of itself (re-embedding) belongs to no user, key or run of the org's.
_OF_THE_PLANE = "system:"
# The store takes 512 bytes for a level's id, of which the org has 41.
_LONGEST_ID_BYTES = 400
_HASHED = "sha256:"


def plan_levels(
    snapshot: Snapshot,
    tenant: TenantContext | None,
    run_id: UUID | None,
    now: datetime,
    *,
    count_request: bool = True,
) -> tuple[Level, ...]:
    """The levels of a call, root first, with the periods that `now` (aware) may fall in. Without
    `tenant` those of orgs alone, without `run_id` none of a run; without `count_request` the call
    is not counted in the windows of requests.

    Caps are those of this moment on the plane's clock, the database's: a raise counts for the
    admissions between its beginning and its end, whenever the work began.
    Raises ValueError for an unknown time zone.
    """
    holder = None if tenant is None or is_the_planes(tenant) else tenant
    key = None if holder is None else (holder.org_id, holder.user_id, holder.key_id)
    planned = _planned.get(snapshot, (key, count_request))
    if planned is None or not planned.since <= now < planned.until:
        planned = _plan(snapshot, holder, now, count_request)
        _planned.put(snapshot, (key, count_request), planned)
    if holder is None or run_id is None:
        return planned.levels
    if snapshot.per_run and snapshot.per_run.cost_nanousd is not None:
        period = whole_run(run_id, snapshot.per_run)
        return (*planned.levels, Level("run", str(run_id), periods=(period,)))
    return planned.levels


@dataclass(frozen=True, slots=True)
class _Plan:
    """The levels of all calls of a holder from `since` to before `until`."""

    levels: tuple[Level, ...]
    since: datetime
    until: datetime


# By snapshot, holder and whether the call counts. Calls come by the thousand, and all that changes
# their levels is the next hour, or a raise that begins or ends.
_planned: Derived[_Plan] = Derived(most=20_000)


def _plan(
    snapshot: Snapshot, tenant: TenantContext | None, now: datetime, count_request: bool
) -> _Plan:
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    raises = [r for limits in snapshot.levels for r in limits.raises]
    turning = [moment for r in raises for moment in (r.begins_at, r.ends_at)]
    return _Plan(
        _levels(snapshot, tenant, now, hour, count_request),
        since=max([hour, *(moment for moment in turning if moment <= now)]),
        until=min([hour + timedelta(hours=1), *(moment for moment in turning if moment > now)]),
    )


def _levels(
    snapshot: Snapshot,
    tenant: TenantContext | None,
    now: datetime,
    hour: datetime,
    count_request: bool,
) -> tuple[Level, ...]:
    own = snapshot.levels[-1] if snapshot.levels else None
    levels = [
        _org_level(
            limits,
            hour,
            _in_force(limits.raises, now),
            limits.suspended or (limits is own and snapshot.status != "active"),
            count_request,
        )
        for limits in snapshot.levels
    ]
    if tenant is None:
        return tuple(levels)
    zone = own.time_zone if own else "UTC"
    levels += [
        _holder_level(kind, holder, limits, zone, hour, count_request)
        for kind, holder, limits in _holders(snapshot, tenant)
    ]
    return tuple(levels)


def is_the_planes(tenant: TenantContext) -> bool:
    """Work that no user asked for: limits of users, keys and runs are not for it."""
    return tenant.principal.startswith(_OF_THE_PLANE)


def caller_levels(
    snapshot: Snapshot, tenant: TenantContext
) -> Iterable[tuple[str, str, LevelLimits]]:
    """Kind, id and limits of the caller's levels, root first; not those of its runs."""
    for level in snapshot.levels:
        yield level.kind, level.id, level
    if not is_the_planes(tenant):
        yield from _holders(snapshot, tenant)


def _holders(snapshot: Snapshot, tenant: TenantContext) -> Iterable[tuple[str, str, LevelLimits]]:
    if snapshot.per_user is not None and _limits_something(snapshot.per_user):
        yield "user", f"{tenant.org_id}/{_level_id(tenant.user_id)}", snapshot.per_user
    if (
        tenant.key_id is not None
        and snapshot.per_key is not None
        and _limits_something(snapshot.per_key)
    ):
        yield "key", f"{tenant.org_id}/{_level_id(tenant.key_id)}", snapshot.per_key


@lru_cache(maxsize=5_000)
def _limits_something(limits: LevelLimits) -> bool:
    return limits != LevelLimits(shadow=limits.shadow)


def _level_id(name: str) -> str:
    """As identity providers have it; what the store would not take, by its hash."""
    fits = len(name.encode(errors="surrogatepass")) <= _LONGEST_ID_BYTES and name.isprintable()
    if fits and name and not name.startswith(_HASHED):
        return name
    return _HASHED + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()


def _in_force(raises: tuple[CapRaise, ...], now: datetime) -> tuple[CapRaise, ...]:
    return tuple(r for r in raises if r.begins_at <= now < r.ends_at) if raises else ()


# By limits, hour and raises in force: nothing else changes them, and calls come by the thousand.
@lru_cache(maxsize=20_000)
def _org_level(
    limits: OrgLimits,
    hour: datetime,
    raises: tuple[CapRaise, ...],
    suspended: bool,
    count_request: bool,
) -> Level:
    periods = (
        *days(limits, limits.time_zone, hour, raises),
        *months(limits, limits.time_zone, hour, raises),
    )
    return _level(limits.kind, limits.id, limits, periods, count_request, suspended)


@lru_cache(maxsize=20_000)
def _holder_level(
    kind: str,
    level_id: str,
    limits: LevelLimits,
    zone: str,
    hour: datetime,
    count_request: bool,
) -> Level:
    periods = _holder_periods(limits, zone, hour)
    return _level(kind, level_id, limits, periods, count_request)


# The same for all users, and for all keys, of an org.
@lru_cache(maxsize=5_000)
def _holder_periods(limits: LevelLimits, zone: str, hour: datetime) -> tuple[Period, ...]:
    """Only such as have a cap; one at least where calls are counted, since what is open there is
    installed anew from accounts."""
    monthly = limits.soft_cap_nanousd is not None or limits.hard_cap_nanousd is not None
    daily = limits.day_soft_cap_nanousd is not None or limits.day_hard_cap_nanousd is not None
    counted = limits.concurrent_calls is not None and not monthly
    return (
        *(days(limits, zone, hour) if daily or counted else ()),
        *(months(limits, zone, hour) if monthly else ()),
    )


def _level(
    kind: str,
    level_id: str,
    limits: LevelLimits,
    periods: tuple[Period, ...],
    count_request: bool,
    suspended: bool = False,
) -> Level:
    return Level(
        kind=kind,
        id=level_id,
        requests_per_window=limits.requests_per_minute if count_request else None,
        tokens_per_window=limits.tokens_per_minute,
        periods=periods,
        suspended=suspended,
        concurrent_calls=limits.concurrent_calls,
        shadow=limits.shadow,
    )


def enforced(windows: tuple[WindowUse, ...], levels: Iterable[Level]) -> tuple[WindowUse, ...]:
    """Those of levels that refuse: callers are told of these alone."""
    shadows = {(level.kind, level.id) for level in levels if level.shadow}
    if not shadows:
        return windows
    return tuple(use for use in windows if (use.level_kind, use.level_id) not in shadows)


@dataclass(frozen=True, slots=True)
class _Placed:
    """The accounts of these very `levels` from `since_ms` to before `until_ms`."""

    levels: tuple[Level, ...]
    slots: tuple[Slot, ...]
    since_ms: int
    until_ms: float


_MOST_PLACED = 20_000
# By the levels' identity: plans are kept, and their levels with them.
_placed: dict[int, _Placed] = {}


def placed_slots(levels: tuple[Level, ...], at_ms: int) -> tuple[Slot, ...]:
    """The accounts that a hold placed at `at_ms` (the store's clock) stands on: the same choice
    that the library makes (lua/account.lua). The same object for calls of one plan."""
    placed = _placed.get(id(levels))
    if placed is None or placed.levels is not levels or not _holds(placed, at_ms):
        placed = _place(levels, at_ms)
        if levels and levels[-1].kind != "run":  # those are never seen again
            if len(_placed) >= _MOST_PLACED:
                _placed.clear()
            _placed[id(levels)] = placed
    return placed.slots


def _holds(placed: _Placed, at_ms: int) -> bool:
    return placed.since_ms <= at_ms < placed.until_ms


def _place(levels: tuple[Level, ...], at_ms: int) -> _Placed:
    periods = [(level, period) for level in levels for period in level.periods]
    turning = [p.start_unix * 1000 for _, p in periods] + [p.end_unix * 1000 for _, p in periods]
    return _Placed(
        levels,
        tuple(
            Slot(level.kind, level.id, period.name, period.id, period.end_unix)
            for level, period in periods
            if period.start_unix * 1000 <= at_ms < period.end_unix * 1000
        ),
        since_ms=max((moment for moment in turning if moment <= at_ms), default=0),
        until_ms=min((moment for moment in turning if moment > at_ms), default=math.inf),
    )
