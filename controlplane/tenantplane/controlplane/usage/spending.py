"""What spend means: periods of each level, nearness to a cap, and where a month is heading. Pure."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median
from typing import Final, Literal
from zoneinfo import ZoneInfo

from tenantplane.core.apis.events import UsageEvent
from tenantplane.core.apis.snapshot import Level

PeriodName = Literal["day", "month"]

THRESHOLDS_PERCENT: Final = (50, 80, 100)
# A day is a spike where it is more than three times the median of the two weeks before it.
SPIKE_FACTOR: Final = 3
SPIKE_DAYS: Final = 14
_FORMS: Final[dict[PeriodName, str]] = {"day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """One level in one period of its own time zone: ("acme", "month", "2026-02")."""

    org_id: str
    period: PeriodName
    period_id: str


@dataclass(frozen=True, slots=True)
class Amount:
    events: int
    nanousd: int


@dataclass(frozen=True, slots=True)
class Alert:
    """Spend of the account has reached `threshold_percent` of the cap."""

    account: Account
    threshold_percent: int
    cap_kind: Literal["soft", "hard"]
    cap_nanousd: int
    spent_nanousd: int


def sums(
    events: Iterable[UsageEvent], lines: Mapping[str, Sequence[Level]]
) -> dict[Account, Amount]:
    """What the events add to each level above their orgs. `lines`: by org, root first; an org
    without one stands alone, in UTC."""
    totals: dict[Account, Amount] = {}
    for event in events:
        line = lines.get(event.org_id) or (Level(kind="org", id=event.org_id),)
        for level in line:
            for account in accounts(level, event.occurred_at):
                before = totals.get(account, Amount(0, 0))
                totals[account] = Amount(before.events + 1, before.nanousd + event.delta_nanousd)
    return totals


def accounts(level: Level, at: datetime) -> Iterator[Account]:
    """The day and the month of the level at this time."""
    local = at.astimezone(ZoneInfo(level.time_zone))
    for period, form in _FORMS.items():
        yield Account(level.id, period, local.strftime(form))


def alerts(account: Account, spent_nanousd: int, level: Level, now: datetime) -> Iterator[Alert]:
    """The thresholds that the account has reached, of its hard cap, else of its soft one."""
    hard, soft = (
        (level.hard_cap_nanousd, level.soft_cap_nanousd)
        if account.period == "month"
        else (level.day_hard_cap_nanousd, level.day_soft_cap_nanousd)
    )
    cap = soft if hard is None else hard
    if cap is None or spent_nanousd <= 0:
        return
    cap += sum(
        extra.extra_nanousd
        for extra in level.raises
        if extra.period == account.period and extra.begins_at <= now < extra.ends_at
    )
    for percent in THRESHOLDS_PERCENT:
        if spent_nanousd * 100 >= cap * percent:
            yield Alert(account, percent, "soft" if hard is None else "hard", cap, spent_nanousd)


def month_end_forecast(spent_nanousd: int, now: datetime) -> int:
    """What the month of `now` (local time) comes to if it goes on as it went so far. The first day
    counts as a whole one: an hour's spend says little about a month."""
    days = calendar.monthrange(now.year, now.month)[1]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    elapsed = now.day - 1 + (now - midnight) / timedelta(days=1)
    return round(spent_nanousd * days / min(days, max(1.0, elapsed)))


def is_spike(by_day: Mapping[date, int], day: date) -> bool:
    """Whether the day is far above the two weeks before it; days without spend count as zero, and
    an org that mostly spent nothing has no measure yet."""
    before = [by_day.get(day - timedelta(days=n), 0) for n in range(1, SPIKE_DAYS + 1)]
    usual = median(before)
    return usual > 0 and by_day.get(day, 0) > SPIKE_FACTOR * usual
