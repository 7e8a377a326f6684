from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tenantplane.core.db.clock import DatabaseClock


def test_time_is_the_servers_and_moves_with_the_monotonic_clock() -> None:
    elapsed = 100.0
    clock = DatabaseClock(lambda: elapsed)
    clock.synchronise(1_800_000_000.0, before=99.0, after=101.0)
    assert clock.unix() == 1_800_000_000.0
    elapsed = 160.0
    assert clock.now() == datetime.fromtimestamp(1_800_000_060, UTC)


def test_before_the_first_reading_there_is_no_time() -> None:
    with pytest.raises(RuntimeError, match="open the Database first"):
        DatabaseClock().unix()
