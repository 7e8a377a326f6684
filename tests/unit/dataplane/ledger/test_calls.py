"""Amounts that no ledger may take, and ids on the database's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.ids import time_of
from tenantplane.core.money import NanoUSD
from tenantplane.core.valkey.requests import Slot
from tenantplane.dataplane.ledger.call_ids import new_call_id, smallest_call_id
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.rows import slots_from_json, slots_to_json
from tests.fixtures.ledger import a_call

BAD = [-1, 9_000_000_000_000_001, 1.5, float("nan"), float("inf"), True, None, "7"]


@pytest.mark.parametrize("amount", BAD)
def test_usage_refuses_what_is_no_amount(amount: Any) -> None:
    with pytest.raises(ValueError, match="cost_nanousd must be whole nano-dollars"):
        Usage(1, 1, NanoUSD(amount))


@pytest.mark.parametrize("amount", BAD)
def test_a_call_refuses_a_hold_that_is_no_amount(amount: Any) -> None:
    with pytest.raises(ValueError, match="worst_case_nanousd must be whole nano-dollars"):
        a_call(amount)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 3601])
def test_a_call_has_a_bounded_deadline(seconds: float) -> None:
    with pytest.raises(ValueError, match="deadline_seconds"):
        a_call(deadline_seconds=seconds)


@given(st.floats(1.6e9, 4e9))
def test_a_call_id_carries_the_databases_time(unix: float) -> None:
    made = new_call_id(unix)
    at = datetime.fromtimestamp(int(unix * 1000) / 1000, UTC)
    assert abs((time_of(made) - at).total_seconds()) <= 0.002
    assert made.version == 7
    assert smallest_call_id(time_of(made)) <= made


def test_slots_survive_their_column() -> None:
    slots = (Slot("org", "acme", "month", "2026-03", 1_775_000_000),)
    assert slots_from_json(slots_to_json(slots)) == slots
