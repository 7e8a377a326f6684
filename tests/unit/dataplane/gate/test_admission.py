"""Levels and periods of a snapshot, and the errors that refusals become."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.errors import (
    Conflict,
    HardCapReached,
    RateLimited,
    SoftCapReached,
    Suspended,
)
from tenantplane.core.valkey.answers import Reason, Refused
from tenantplane.core.valkey.requests import Level
from tenantplane.dataplane.gate.admission import placed_slots, plan_levels, refusal_error
from tests.fixtures.ledger import a_snapshot

ZONES = ["UTC", "Europe/Zurich", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"]
times = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC)
)


def level_of(now: datetime, **limits: Any) -> Level:
    (level,) = plan_levels(a_snapshot("acme", **limits), now)
    return level


@given(now=times, zone=st.sampled_from(ZONES), skew=st.integers(-7200, 7200))
def test_one_period_of_each_name_covers_any_clock_within_two_hours(
    now: datetime, zone: str, skew: int
) -> None:
    at = (now + timedelta(seconds=skew)).timestamp()
    level = level_of(now, time_zone=zone)
    covering = [p.name for p in level.periods if p.start_unix <= at < p.end_unix]
    assert sorted(covering) == ["day", "month"]


@given(now=times, zone=st.sampled_from(ZONES))
def test_the_next_period_of_each_name_is_there(now: datetime, zone: str) -> None:
    level = level_of(now, time_zone=zone)
    for name in ("day", "month"):
        periods = [p for p in level.periods if p.name == name]
        assert all(a.end_unix == b.start_unix for a, b in itertools.pairwise(periods))
        current = next(p for p in periods if p.start_unix <= now.timestamp() < p.end_unix)
        assert periods[-1].start_unix >= current.end_unix


def test_a_month_begins_at_midnight_of_its_own_zone() -> None:
    level = level_of(datetime(2026, 3, 10, tzinfo=UTC), time_zone="Europe/Zurich")
    month = next(p for p in level.periods if p.id == "2026-03")
    assert datetime.fromtimestamp(month.start_unix, UTC) == datetime(2026, 2, 28, 23, tzinfo=UTC)
    # Summer time began on the 29th: April's midnight is an hour earlier in UTC.
    assert datetime.fromtimestamp(month.end_unix, UTC) == datetime(2026, 3, 31, 22, tzinfo=UTC)


def test_months_have_caps_and_days_have_none() -> None:
    level = level_of(datetime(2026, 3, 10, tzinfo=UTC), soft_cap_nanousd=900, hard_cap_nanousd=1000)
    caps = {(p.name, p.soft_cap_nanousd, p.hard_cap_nanousd) for p in level.periods}
    assert caps == {("day", None, None), ("month", 900, 1000)}


def test_an_unknown_time_zone_is_named() -> None:
    with pytest.raises(ValueError, match="'Mars/Olympus' is not a time zone"):
        level_of(datetime(2026, 3, 10, tzinfo=UTC), time_zone="Mars/Olympus")


@pytest.mark.parametrize("status", ["suspended", "deleted"])
def test_an_org_that_is_not_active_is_suspended(status: str) -> None:
    (level,) = plan_levels(a_snapshot("acme", status=status), datetime(2026, 3, 10, tzinfo=UTC))
    assert level.suspended


def test_a_call_that_is_no_new_request_is_not_counted_as_one() -> None:
    snapshot = a_snapshot("acme", requests_per_minute=5, tokens_per_minute=70)
    now = datetime(2026, 3, 10, tzinfo=UTC)
    (level,) = plan_levels(snapshot, now, count_request=False)
    assert (level.requests_per_window, level.tokens_per_window) == (None, 70)


def test_a_hold_stands_on_the_periods_of_the_stores_time() -> None:
    now = datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
    levels = plan_levels(a_snapshot("acme"), now)
    just_after = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)
    assert [s.period_id for s in placed_slots(levels, just_after - 1)] == ["2026-02-28", "2026-02"]
    assert [s.period_id for s in placed_slots(levels, just_after)] == ["2026-03-01", "2026-03"]


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (Reason.SUSPENDED, Suspended),
        (Reason.REQUESTS, RateLimited),
        (Reason.TOKENS, RateLimited),
        (Reason.SOFT_CAP, SoftCapReached),
        (Reason.HARD_CAP, HardCapReached),
        (Reason.SETTLED, Conflict),
    ],
)
def test_each_refusal_has_its_error(reason: Reason, error: type[Exception]) -> None:
    refused = Refused(reason, "org", "acme", 10, 9, 1500, "month")
    assert type(refusal_error(refused)) is error


def test_a_cap_error_says_level_limit_use_and_when() -> None:
    refused = Refused(
        Reason.HARD_CAP, "org", "acme", 1_000_000_000_000, 999_500_000_000, 86_400_001, "month"
    )
    problem = refusal_error(refused).problem()
    assert problem["detail"] == (
        "The org 'acme' has a hard cap of $1,000.00 per month; "
        "$999.50 are spent or held by running calls."
    )
    assert problem["level"] == "org 'acme'"
    assert problem["limit_nanousd"] == 1_000_000_000_000
    assert problem["used_nanousd"] == 999_500_000_000
    assert problem["retry_after"] == 86_401


def test_a_call_that_alone_is_over_the_limit_is_not_told_to_wait() -> None:
    error = refusal_error(Refused(Reason.TOKENS, "org", "acme", 10, 0, None))
    assert error.headers() == {}
    assert "alone is more than the limit" in str(error)
