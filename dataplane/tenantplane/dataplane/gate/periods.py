"""Calendar days and months of a time zone, and the span of a run, as periods of the store. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo

from tenantplane.core.apis.snapshot import CapRaise, LevelLimits, RunBounds
from tenantplane.core.ids import time_of
from tenantplane.core.money import MAX_CAP
from tenantplane.core.valkey.requests import Period

# The store chooses the period by its own clock; periods are given for clocks this far apart.
CLOCK_SKEW = timedelta(hours=2)
# The account of a run is kept so long; no run with a cap of its own goes on for longer.
LONGEST_RUN = timedelta(days=7)


def days(
    limits: LevelLimits, zone_name: str, hour: datetime, raises: Sequence[CapRaise] = ()
) -> Iterator[Period]:
    """The days that the hour's clock times may fall in, give or take the skew, in order.

    Raises ValueError for an unknown time zone.
    """
    zone = _zone(zone_name)
    day, last = _first_and_last(hour, zone)
    while day <= last:
        following = day + timedelta(days=1)
        yield _period(
            ("day", day.isoformat()),
            (_midnight(day, zone), _midnight(following, zone)),
            (limits.day_soft_cap_nanousd, limits.day_hard_cap_nanousd),
            raises,
        )
        day = following


def months(
    limits: LevelLimits, zone_name: str, hour: datetime, raises: Sequence[CapRaise] = ()
) -> Iterator[Period]:
    """As `days`, of calendar months."""
    zone = _zone(zone_name)
    first, last = _first_and_last(hour, zone)
    month = first.replace(day=1)
    while month <= last:
        following = (month + timedelta(days=32)).replace(day=1)
        yield _period(
            ("month", f"{month:%Y-%m}"),
            (_midnight(month, zone), _midnight(following, zone)),
            (limits.soft_cap_nanousd, limits.hard_cap_nanousd),
            raises,
        )
        month = following


def whole_run(run_id: UUID, bounds: RunBounds) -> Period:
    """The one period of a run, counted from the time in its id, for as long as it may last: its
    account is cleared soon after. Raises ValueError where the id is no UUIDv7."""
    began_unix = int(time_of(run_id).timestamp())
    skew, longest = int(CLOCK_SKEW.total_seconds()), int(LONGEST_RUN.total_seconds())
    ends_unix = began_unix + min(bounds.seconds or longest, longest) + skew
    return Period("run", "whole", began_unix - skew, ends_unix, None, bounds.cost_nanousd)


def _first_and_last(hour: datetime, zone: ZoneInfo) -> tuple[date, date]:
    first = (hour - CLOCK_SKEW).astimezone(zone).date()
    last = (hour + timedelta(hours=1) + CLOCK_SKEW).astimezone(zone).date()
    return first, last


def _period(
    named: tuple[str, str],
    span_unix: tuple[int, int],
    caps_nanousd: tuple[int | None, int | None],
    raises: Sequence[CapRaise],
) -> Period:
    """A raise counts in the periods that it overlaps: a top-up that ends with its month adds
    nothing to the next one, whatever the clocks are."""
    extra = sum(
        given.extra_nanousd
        for given in raises
        if given.period == named[0]
        and given.begins_at.timestamp() < span_unix[1]
        and given.ends_at.timestamp() > span_unix[0]
    )
    soft, hard = (None if cap is None else min(cap + extra, MAX_CAP) for cap in caps_nanousd)
    return Period(*named, *span_unix, soft, hard)


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
