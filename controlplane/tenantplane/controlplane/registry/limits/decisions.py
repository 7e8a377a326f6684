"""What a raise comes to, and what is refused: pure functions of the org and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.raises import RaiseRequest
from tenantplane.core.errors import Conflict, FieldError, Unprocessable
from tenantplane.core.money import MAX_CAP, format_usd, parse_usd

Period = Literal["day", "month"]
State = Literal["coming", "in force", "over", "ended"]

# They stand in the snapshots of the org and of all below it.
MAX_STANDING: Final = 50
MAX_LIFE: Final = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Raise:
    """More room under the caps of one kind of period, from one time to another, both aware."""

    period: Period
    extra_nanousd: int
    begins_at: datetime
    ends_at: datetime


def decide_raise(
    request: RaiseRequest, limits: Limits, standing: Sequence[Raise], time_zone: str, now: datetime
) -> Raise:
    """The raise that `request` means, over `standing` (those that have not ended).

    Raises Unprocessable (`no_cap_to_raise`, `cap_too_high`, bad times), Conflict
    (`too_many_raises`).
    """
    wanted = Raise(
        period=request.period,
        extra_nanousd=parse_usd(request.extra_usd),
        begins_at=request.begins_at or now,
        ends_at=request.ends_at or period_end(request.period, now, time_zone),
    )
    _refuse_bad_times(wanted, now)
    _refuse_bad_sum(wanted, limits, standing)
    if len(standing) >= MAX_STANDING:
        raise Conflict(
            f"{len(standing)} raises stand already, as many as a tenant can have.",
            hint="End some, or raise the cap itself.",
            code="too_many_raises",
        )
    return wanted


def period_end(period: Period, at: datetime, time_zone: str) -> datetime:
    """Where the calendar day or month that `at` falls in ends there, in UTC."""
    zone = ZoneInfo(time_zone)
    day = at.astimezone(zone).date()
    if period == "day":
        following = day + timedelta(days=1)
    else:
        following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime(following.year, following.month, following.day, tzinfo=zone).astimezone(UTC)


def state_at(
    now: datetime, begins_at: datetime, ends_at: datetime, ended_at: datetime | None
) -> State:
    if ended_at is not None:
        return "ended"
    if now >= ends_at:
        return "over"
    return "in force" if now >= begins_at else "coming"


def _refuse_bad_times(wanted: Raise, now: datetime) -> None:
    errors = []
    if wanted.ends_at <= now:
        errors.append(FieldError("endsAt", "is over already: name a time to come"))
    elif wanted.ends_at <= wanted.begins_at:
        errors.append(FieldError("endsAt", "is not after beginsAt"))
    elif wanted.ends_at - wanted.begins_at > MAX_LIFE:
        errors.append(
            FieldError("endsAt", f"is more than {MAX_LIFE.days} days on: raise the cap itself")
        )
    if errors:
        raise Unprocessable(
            "The raise has no time to stand.", code="invalid_fields", errors=tuple(errors)
        )


def _refuse_bad_sum(wanted: Raise, limits: Limits, standing: Sequence[Raise]) -> None:
    if wanted.period == "day":
        caps = (limits.soft_cap_usd_per_day, limits.hard_cap_usd_per_day)
    else:
        caps = (limits.soft_cap_usd, limits.hard_cap_usd)
    amounts = [parse_usd(cap) for cap in caps if cap is not None]
    if not amounts:
        raise Unprocessable(
            f"The tenant has no cap per {wanted.period}, so there is none to raise.",
            hint="Its plan or manifest sets caps: limits.hardCapUSD, limits.hardCapUSDPerDay.",
            code="no_cap_to_raise",
            errors=(FieldError("period", f"there is no cap per {wanted.period}"),),
        )
    extras = sum(r.extra_nanousd for r in standing if r.period == wanted.period)
    if max(amounts) + extras + wanted.extra_nanousd > MAX_CAP:
        room = max(0, MAX_CAP - max(amounts) - extras)
        raise Unprocessable(
            f"A cap with its raises comes to {format_usd(MAX_CAP)} at most.",
            hint=f"Up to {format_usd(room)} more is possible.",
            code="cap_too_high",
            errors=(FieldError("extraUSD", f"at most {format_usd(room)}"),),
        )
