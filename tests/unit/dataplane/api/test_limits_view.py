"""GET /tp/v1/limits: the limits of the snapshot with what the store says of their use."""

from __future__ import annotations

from tenantplane.core.apis.snapshot import LevelLimits, RunBounds
from tenantplane.core.valkey.answers import OpenCalls, PeriodSpend, Spend, WindowUse
from tenantplane.dataplane.api.spend import limits_view
from tenantplane.dataplane.gate.request import RequestTenant
from tests.fixtures.ledger import a_snapshot, a_tenant

USE = Spend(
    periods=(
        PeriodSpend("org", "acme", "day", "2026-03-10", 5, 1, None, None),
        PeriodSpend("org", "acme", "month", "2026-03", 7, 1, 90, 100),
        PeriodSpend("user", "acme/user-1", "day", "2026-03-10", 2, 0, None, 10),
    ),
    windows=(
        WindowUse("org", "acme", 9, 0, 10, None, 1_500),
        WindowUse("user", "acme/user-1", 3, 60, None, 50, 0, 2_000),
    ),
    calls=(OpenCalls("org", "acme", 2, 4),),
)


def test_each_level_of_the_caller_is_shown_with_its_limits_alone() -> None:
    snapshot = a_snapshot(
        "acme", requests_per_minute=10, concurrent_calls=4, hard_cap_nanousd=100
    ).model_copy(
        update={
            "per_user": LevelLimits(tokens_per_minute=50, day_hard_cap_nanousd=10, shadow=True),
            "per_run": RunBounds(steps=5, cost_nanousd=1_000_000_000),
        }
    )
    view = limits_view(RequestTenant(a_tenant("acme"), snapshot, lambda: snapshot), USE)
    org, user = view.model_dump()["levels"]
    assert org["requests"] == {"limit": 10, "used": 9, "left": 1, "reset_ms": 1_500}
    assert (org["tokens"], org["calls"]) == (None, {"limit": 4, "open": 2})
    assert [(cap["period"], cap["hard_cap"]["nanousd"]) for cap in org["caps"]] == [("month", 100)]
    assert (user["level_kind"], user["level_id"], user["shadow"]) == ("user", "acme/user-1", True)
    assert user["requests"] is None
    assert user["tokens"] == {"limit": 50, "used": 60, "left": 0, "reset_ms": 2_000}
    assert [cap["settled"]["nanousd"] for cap in user["caps"]] == [2]
    assert view.run.model_dump() == {
        "steps": 5,
        "seconds": None,
        "cost": {"nanousd": 1_000_000_000, "usd": "$1.00"},
    }


def test_where_nothing_is_limited_the_org_is_shown_without_limits() -> None:
    snapshot = a_snapshot("acme")
    tenant = RequestTenant(a_tenant("acme"), snapshot, lambda: snapshot)
    view = limits_view(tenant, Spend(USE.periods[:1]))
    (org,) = view.levels
    assert (org.requests, org.tokens, org.calls, org.caps) == (None, None, None, [])
