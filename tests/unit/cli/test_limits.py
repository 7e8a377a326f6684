from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tenantplane.cli import entitlements, limits
from tenantplane.core.errors import InvalidInput

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-12-24", datetime(2026, 12, 23, 23, tzinfo=UTC)),
        ("2026-07-01T18:00", datetime(2026, 7, 1, 16, tzinfo=UTC)),
        ("2026-12-24T18:00Z", datetime(2026, 12, 24, 18, tzinfo=UTC)),
        ("2026-12-24T18:00+05:00", datetime(2026, 12, 24, 13, tzinfo=UTC)),
    ],
    ids=["a day", "summer time", "utc", "an offset"],
)
def test_times_are_the_tenants_unless_they_say_otherwise(text: str, utc: datetime) -> None:
    assert limits._time("--until", text, BERLIN) == utc


@pytest.mark.parametrize("text", ["tomorrow", "24.12.2026", ""])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"--until.*2026-12-24"):
        limits._time("--until", text, BERLIN)


def test_no_roles_are_not_unknown_ones() -> None:
    assert entitlements._roles(None) is None
    assert entitlements._roles("") == ()
    assert entitlements._roles("support, member,") == ("support", "member")
