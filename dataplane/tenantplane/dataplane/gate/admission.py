"""Admission, the pure part: a snapshot's limits as levels with periods, refusals as errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import assert_never
from zoneinfo import ZoneInfo

from tenantplane.core.apis.snapshot import Level as LevelLimits
from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.errors import (
    Conflict,
    DependencyUnavailable,
    HardCapReached,
    RateLimited,
    SoftCapReached,
    Suspended,
    TenantplaneError,
)
from tenantplane.core.money import format_usd
from tenantplane.core.valkey.answers import Reason, Refused, Stale
from tenantplane.core.valkey.requests import Level, Period, Slot

# The store chooses the period by its own clock; periods are given for clocks this far apart.
CLOCK_SKEW = timedelta(hours=2)


def plan_levels(
    snapshot: Snapshot, now: datetime, *, count_request: bool = True
) -> tuple[Level, ...]:
    """The levels of a call, root first, with the periods that `now` (aware) may fall in and the
    next ones. Without `count_request` the call is not counted in the windows of requests.

    Raises ValueError for an unknown time zone.
    """
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    own = snapshot.levels[-1] if snapshot.levels else None
    return tuple(
        _level(
            limits,
            suspended=limits.suspended or (limits is own and snapshot.status != "active"),
            hour=hour,
            count_request=count_request,
        )
        for limits in snapshot.levels
    )


# Per level and hour: the boundaries change at most hourly, and calls come by the thousand.
@lru_cache(maxsize=20_000)
def _level(limits: LevelLimits, *, suspended: bool, hour: datetime, count_request: bool) -> Level:
    return Level(
        kind=limits.kind,
        id=limits.id,
        requests_per_window=limits.requests_per_minute if count_request else None,
        tokens_per_window=limits.tokens_per_minute,
        periods=(*_days(limits, hour), *_months(limits, hour)),
        suspended=suspended,
    )


def placed_slots(levels: Iterable[Level], at_ms: int) -> tuple[Slot, ...]:
    """The accounts that a hold placed at `at_ms` (the store's clock) stands on: the same choice
    that the library makes (lua/account.lua)."""
    return tuple(
        Slot(level.kind, level.id, period.name, period.id, period.end_unix)
        for level in levels
        for period in level.periods
        if period.start_unix * 1000 <= at_ms < period.end_unix * 1000
    )


def _days(limits: LevelLimits, hour: datetime) -> Iterator[Period]:
    """Days have no caps yet: they show spend by day."""
    zone = _zone(limits.time_zone)
    first = (hour - CLOCK_SKEW).astimezone(zone).date()
    last = (hour + timedelta(hours=1) + CLOCK_SKEW).astimezone(zone).date() + timedelta(days=1)
    day = first
    while day <= last:
        following = day + timedelta(days=1)
        yield Period("day", day.isoformat(), _midnight(day, zone), _midnight(following, zone))
        day = following


def _months(limits: LevelLimits, hour: datetime) -> Iterator[Period]:
    zone = _zone(limits.time_zone)
    month = (hour - CLOCK_SKEW).astimezone(zone).date().replace(day=1)
    last = _next_month((hour + timedelta(hours=1) + CLOCK_SKEW).astimezone(zone).date())
    while month <= last:
        following = _next_month(month)
        yield Period(
            "month",
            f"{month:%Y-%m}",
            _midnight(month, zone),
            _midnight(following, zone),
            limits.soft_cap_nanousd,
            limits.hard_cap_nanousd,
        )
        month = following


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _midnight(day: date, zone: ZoneInfo) -> int:
    """The unix time at which a day begins there; where midnight is skipped by a clock change, the
    moment of the change (Python resolves a gap by the offset before it)."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


@lru_cache(maxsize=1000)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        raise ValueError(f"{name!r} is not a time zone of the IANA database") from None


def refusal_error(refused: Refused) -> TenantplaneError:
    """The error that a caller gets: which level, its limit, what is used, and what to do."""
    level = f"{refused.level_kind} {refused.level_id!r}"
    match refused.reason:
        case Reason.SUSPENDED:
            return Suspended(
                f"The {level} is suspended.",
                hint="Ask its administrator; nothing runs until it is resumed.",
                level=level,
            )
        case Reason.REQUESTS | Reason.TOKENS:
            return _rate_limited(refused, level)
        case Reason.SOFT_CAP:
            hint = "New work starts when the period ends or the cap is raised."
            return _cap_error(SoftCapReached, "soft", refused, hint)
        case Reason.HARD_CAP:
            hint = "Raise the cap, ask for less (max_tokens), or wait for the next period."
            return _cap_error(HardCapReached, "hard", refused, hint)
        case Reason.SETTLED:
            return Conflict(
                "The call was settled already and cannot be held again.",
                hint="Start a new call with a new call number.",
            )
        case never:
            assert_never(never)


def stale_error(stale: Stale, snapshot: Snapshot) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"This replica has version {snapshot.version} of the entitlements of {snapshot.org_id!r}, "
        f"and version {stale.known_version} is in force.",
        hint="Try again: it is being fetched.",
        code="stale_snapshot",
        retry_after_seconds=1,
    )


def _rate_limited(refused: Refused, level: str) -> RateLimited:
    what = "requests" if refused.reason is Reason.REQUESTS else "tokens"
    detail = f"The {level} may use {refused.limit:,} {what} per minute; {refused.used:,} are used."
    if refused.retry_after_ms is None:
        return RateLimited(
            detail,
            hint="The call alone is more than the limit: ask for less (max_tokens), or for more.",
            level=level,
            limit=refused.limit,
            used=refused.used,
        )
    return RateLimited(
        detail,
        hint="Wait as long as Retry-After says, or ask for a higher limit.",
        retry_after_seconds=refused.retry_after_ms / 1000,
        level=level,
        limit=refused.limit,
        used=refused.used,
        retry_after=_whole_seconds(refused.retry_after_ms),
    )


def _cap_error(
    kind: type[SoftCapReached] | type[HardCapReached], which: str, refused: Refused, hint: str
) -> SoftCapReached | HardCapReached:
    level = f"{refused.level_kind} {refused.level_id!r}"
    period = f" per {refused.period}" if refused.period else ""
    # The store says for every cap when its period ends.
    retry_after_ms = refused.retry_after_ms or 0
    return kind(
        f"The {level} has a {which} cap of {format_usd(refused.limit)}{period}; "
        f"{format_usd(refused.used)} are spent or held by running calls.",
        hint=hint,
        retry_after_seconds=retry_after_ms / 1000,
        level=level,
        limit_nanousd=refused.limit,
        used_nanousd=refused.used,
        retry_after=_whole_seconds(retry_after_ms),
    )


def _whole_seconds(milliseconds: int) -> int:
    """As the Retry-After field has it: rounded up, since earlier would be too early."""
    return max(1, -(-milliseconds // 1000))
