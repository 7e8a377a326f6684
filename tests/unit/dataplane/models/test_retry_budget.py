from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.dataplane.models.retry_budget import MOST_SAVED, RetryBudget


@given(st.floats(0, 100), st.lists(st.booleans(), max_size=300))
def test_repeats_are_a_part_of_the_calls(percent: float, asks: list[bool]) -> None:
    """True: a call, which fails; False: a wish to repeat one."""
    budget, calls, repeats = RetryBudget(percent), 0, 0
    for is_call in asks:
        if is_call:
            calls += 1
            budget.earn()
        elif budget.has_one:
            repeats += 1
            budget.spend()
        assert repeats <= MOST_SAVED + calls * percent / 100 + 1e-6


@pytest.mark.parametrize("percent", [10, 20, 100])
def test_a_call_earns_its_part(percent: float) -> None:
    budget = RetryBudget(percent)
    while budget.has_one:
        budget.spend()
    for _ in range(int(100 / percent)):
        assert not budget.has_one
        budget.earn()
    assert budget.has_one


def test_none_where_none_is_wanted() -> None:
    budget = RetryBudget(0)
    budget.earn()
    assert not budget.has_one
