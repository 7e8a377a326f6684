"""Periods of each level, thresholds of caps, forecast and spike."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.controlplane.usage.spending import (
    THRESHOLDS_PERCENT,
    Account,
    Amount,
    alerts,
    is_spike,
    month_end_forecast,
    sums,
)
from tenantplane.core.apis.events import UsageEvent
from tenantplane.core.apis.snapshot import CapRaise, Level
from tenantplane.core.ids import new_id

NOW = datetime(2026, 2, 14, 12, tzinfo=UTC)
MONTH = Account("acme", "month", "2026-02")
DAY = Account("acme", "day", "2026-02-14")


def event(org_id: str, delta: int, at: datetime = NOW) -> UsageEvent:
    return UsageEvent(
        event_id=new_id(),
        org_id=org_id,
        root_org_id="umbrella",
        user_id="u",
        run_id=new_id(),
        call_no=0,
        intent_id=new_id(),
        stage="actual",
        kind="model",
        resource="m",
        input_tokens=1,
        output_tokens=1,
        cost_nanousd=abs(delta),
        delta_nanousd=delta,
        price_book_version=1,
        occurred_at=at,
    )


@pytest.mark.req("R36")
def test_an_event_counts_at_each_level_in_the_levels_own_time_zone() -> None:
    line = (
        Level(kind="umbrella", id="umbrella", time_zone="Pacific/Auckland"),
        Level(kind="org", id="acme"),
    )
    late = datetime(2026, 2, 28, 13, tzinfo=UTC)  # already March over there
    assert sums([event("acme", 5, late), event("acme", -2, late)], {"acme": line}) == {
        Account("umbrella", "day", "2026-03-01"): Amount(2, 3),
        Account("umbrella", "month", "2026-03"): Amount(2, 3),
        Account("acme", "day", "2026-02-28"): Amount(2, 3),
        Account("acme", "month", "2026-02"): Amount(2, 3),
    }


def test_an_org_without_limits_stands_alone() -> None:
    assert sums([event("gone", 5)], {}) == {
        Account("gone", "day", "2026-02-14"): Amount(1, 5),
        Account("gone", "month", "2026-02"): Amount(1, 5),
    }


@pytest.mark.req("R38")
@pytest.mark.parametrize(
    ("spent", "reached"),
    [(0, []), (499, []), (500, [50]), (799, [50]), (800, [50, 80]), (1000, [50, 80, 100])],
    ids=str,
)
def test_thresholds_of_the_hard_cap(spent: int, reached: list[int]) -> None:
    level = Level(kind="org", id="acme", soft_cap_nanousd=100, hard_cap_nanousd=1000)
    found = list(alerts(MONTH, spent, level, NOW))
    assert [alert.threshold_percent for alert in found] == reached
    assert all((alert.cap_kind, alert.cap_nanousd) == ("hard", 1000) for alert in found)


def test_the_soft_cap_counts_where_there_is_no_hard_one_and_days_have_their_own() -> None:
    level = Level(
        kind="org",
        id="acme",
        soft_cap_nanousd=100,
        day_soft_cap_nanousd=10,
        day_hard_cap_nanousd=20,
    )
    (soft,) = alerts(MONTH, 50, level, NOW)
    assert (soft.cap_kind, soft.cap_nanousd) == ("soft", 100)
    (day,) = alerts(DAY, 10, level, NOW)
    assert (day.cap_kind, day.cap_nanousd) == ("hard", 20)
    assert not list(alerts(MONTH, 10**9, Level(kind="org", id="acme"), NOW))


def test_a_raise_makes_room_while_it_lasts() -> None:
    extra = CapRaise(
        raise_id="r",
        period="month",
        extra_nanousd=1000,
        begins_at=NOW - timedelta(hours=1),
        ends_at=NOW + timedelta(hours=1),
    )
    level = Level(kind="org", id="acme", hard_cap_nanousd=1000, raises=(extra,))
    assert [a.threshold_percent for a in alerts(MONTH, 1000, level, NOW)] == [50]
    later = NOW + timedelta(hours=1)
    assert [a.threshold_percent for a in alerts(MONTH, 1000, level, later)] == [50, 80, 100]


@given(st.integers(0, 10**15), st.integers(1, 10**15))
def test_a_threshold_is_reached_exactly_from_its_share_on(spent: int, cap: int) -> None:
    level = Level(kind="org", id="acme", hard_cap_nanousd=cap)
    reached = {alert.threshold_percent for alert in alerts(MONTH, spent, level, NOW)}
    assert reached == {p for p in THRESHOLDS_PERCENT if spent > 0 and spent * 100 >= cap * p}


@pytest.mark.req("R38")
@pytest.mark.parametrize(
    ("now", "spent", "forecast"),
    [
        (datetime(2026, 2, 14, 0, tzinfo=UTC), 13, 28),
        (datetime(2026, 2, 14, 12, tzinfo=UTC), 27, 56),
        (datetime(2026, 2, 1, 0, 0, 1, tzinfo=UTC), 1, 28),  # the first day counts whole
        (datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), 280, 280),
        (datetime(2026, 2, 14, 12, tzinfo=UTC), 0, 0),
    ],
    ids=["whole days", "half a day", "first second", "last second", "nothing"],
)
def test_forecast_goes_on_as_it_went(now: datetime, spent: int, forecast: int) -> None:
    assert month_end_forecast(spent, now) == forecast


@pytest.mark.req("R38")
@pytest.mark.parametrize(
    ("before", "today", "spike"),
    [
        ([10] * 14, 30, False),
        ([10] * 14, 31, True),
        ([10] * 6, 1000, False),
        ([], 5, False),
        ([10] * 8, 31, True),
        ([10] * 13 + [10_000], 31, True),
    ],
    ids=["three times", "above it", "few days", "no history", "most days", "an outlier"],
)
def test_a_spike_is_far_above_the_usual_day(before: list[int], today: int, spike: bool) -> None:
    day = date(2026, 3, 1)
    by_day = {day - timedelta(days=n): amount for n, amount in enumerate(before, start=1)}
    assert is_spike(by_day | {day: today}, day) is spike
