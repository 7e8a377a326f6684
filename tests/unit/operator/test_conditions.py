from __future__ import annotations

from datetime import UTC, datetime

from tenantplane.core.apis.conditions import ConditionType, Reason
from tenantplane.operator.reconcile.conditions import Wanted, merged, transitions

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = datetime(2026, 1, 2, tzinfo=UTC)
READY = Wanted(ConditionType.READY, "True", Reason.SERVING, "served")


def test_the_transition_time_moves_only_with_the_status() -> None:
    first = merged([], [READY], 1, T0)
    again = merged(first, [Wanted(ConditionType.READY, "True", Reason.SERVING, "other")], 2, T1)
    assert again[0]["lastTransitionTime"] == first[0]["lastTransitionTime"]
    assert again[0]["message"] == "other"
    moved = merged(again, [Wanted(ConditionType.READY, "False", Reason.SUSPENDED)], 3, T1)
    assert moved[0]["lastTransitionTime"] == "2026-01-02T00:00:00Z"


def test_conditions_that_are_not_spoken_of_stay() -> None:
    first = merged([], [READY], 1, T0)
    both = merged(first, [Wanted(ConditionType.REGISTERED, "True", Reason.REGISTERED)], 1, T1)
    assert [c["type"] for c in both] == ["Ready", "Registered"]
    assert both[0] == first[0]


def test_only_what_is_new_is_worth_an_event() -> None:
    first = merged([], [READY], 1, T0)
    assert transitions(first, [READY]) == []
    suspended = Wanted(ConditionType.READY, "False", Reason.SUSPENDED)
    assert transitions(first, [suspended]) == [suspended]
