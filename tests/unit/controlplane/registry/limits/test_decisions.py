from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from tenantplane.controlplane.registry.limits.decisions import (
    MAX_STANDING,
    Period,
    Raise,
    decide_raise,
    period_end,
    state_at,
)
from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.raises import RaiseRequest
from tenantplane.core.errors import Conflict, Unprocessable

NOW = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
CAPPED = Limits(hard_cap_usd="100", soft_cap_usd="90")


def _asked(**fields: Any) -> RaiseRequest:
    return RaiseRequest.model_validate({"extraUSD": "5", **fields})


@pytest.mark.parametrize(
    ("period", "zone", "ends"),
    [
        ("day", "UTC", datetime(2026, 3, 29, tzinfo=UTC)),
        ("month", "UTC", datetime(2026, 4, 1, tzinfo=UTC)),
        # 23:30 there, and the next day begins an hour before the clocks go forward.
        ("day", "Europe/Berlin", datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("month", "Europe/Berlin", datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("day", "Asia/Tokyo", datetime(2026, 3, 29, 15, tzinfo=UTC)),
        ("month", "America/New_York", datetime(2026, 4, 1, 4, tzinfo=UTC)),
    ],
    ids=["utc day", "utc month", "berlin day", "berlin month", "tokyo day", "new york month"],
)
def test_periods_end_where_the_tenant_is(period: Period, zone: str, ends: datetime) -> None:
    assert period_end(period, NOW, zone) == ends


def test_a_top_up_is_of_the_period_that_runs() -> None:
    made = decide_raise(_asked(), CAPPED, [], "Europe/Berlin", NOW)
    ends = datetime(2026, 3, 31, 22, tzinfo=UTC)
    assert made == Raise("month", 5_000_000_000, NOW, ends)


def test_a_raise_is_from_one_time_to_another() -> None:
    begins, ends = NOW + timedelta(days=1), NOW + timedelta(days=2)
    made = decide_raise(_asked(beginsAt=begins, endsAt=ends), CAPPED, [], "UTC", NOW)
    assert (made.begins_at, made.ends_at) == (begins, ends)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"period": "day"}, "no_cap_to_raise"),
        ({"endsAt": NOW}, "invalid_fields"),
        (
            {"endsAt": NOW + timedelta(days=1), "beginsAt": NOW + timedelta(days=2)},
            "invalid_fields",
        ),
        ({"endsAt": NOW + timedelta(days=500)}, "invalid_fields"),
        ({"extraUSD": "8999990"}, "cap_too_high"),
    ],
    ids=["no cap", "over", "backwards", "for ever", "too much"],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        decide_raise(_asked(**fields), CAPPED, [], "UTC", NOW)
    assert refused.value.error_code == code
    assert refused.value.errors


def test_raises_add_up_and_end_somewhere() -> None:
    half = Raise("month", 4_500_000_000_000_000, NOW, NOW + timedelta(days=1))
    decide_raise(_asked(extraUSD="4499900"), CAPPED, [half], "UTC", NOW)
    with pytest.raises(Unprocessable, match=r"9,000,000"):
        decide_raise(_asked(extraUSD="4499900.01"), CAPPED, [half], "UTC", NOW)
    small = Raise("month", 1, NOW, NOW + timedelta(days=1))
    with pytest.raises(Conflict, match="50 raises"):
        decide_raise(_asked(), CAPPED, [small] * MAX_STANDING, "UTC", NOW)


@pytest.mark.parametrize("extra", ["0", "0.00", "-1", "1e3", "NaN", ""])
def test_a_raise_is_an_amount_above_nothing(extra: str) -> None:
    with pytest.raises(ValidationError):
        _asked(extraUSD=extra)


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        _asked(endsAt="2026-04-01T00:00:00")


def test_a_raise_comes_stands_and_goes() -> None:
    begins, ends = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
    assert state_at(NOW, begins, ends, None) == "in force"
    assert state_at(NOW, begins, ends, NOW) == "ended"
    assert state_at(begins - timedelta(hours=1), begins, ends, None) == "coming"
    assert state_at(ends, begins, ends, None) == "over"
