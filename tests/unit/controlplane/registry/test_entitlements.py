from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenantplane.controlplane.registry.entitlements import (
    OrgEntitlement,
    PlanEntitlement,
    org_rows,
    plan_rows,
    resolve,
)
from tenantplane.core.apis.plan import PlanEntitlements
from tenantplane.core.apis.tenant import Grants, TenantEntitlements

NAMES = st.sets(st.sampled_from("abcdef"))


@given(plan=NAMES, allow=NAMES, deny=NAMES)
def test_resolves_as_the_design_says(plan: set[str], allow: set[str], deny: set[str]) -> None:
    planned = [PlanEntitlement("tool", name) for name in plan]
    own = [OrgEntitlement("tool", name, "allow") for name in allow]
    own += [OrgEntitlement("tool", name, "deny") for name in deny]
    assert resolve("tool", planned, own) == tuple(sorted((plan | allow) - deny))


def test_nothing_is_allowed_by_default() -> None:
    assert resolve("model", [], []) == ()


def test_kinds_do_not_mix() -> None:
    planned = plan_rows(
        PlanEntitlements(tools=("clock",), models=("clock",), data_sources=("clock", "usage"))
    )
    own = org_rows(
        TenantEntitlements(
            models=Grants(deny=("clock",)),
            data_sources=Grants(allow=("documents",), deny=("clock",)),
        )
    )
    assert resolve("tool", planned, own) == ("clock",)
    assert resolve("model", planned, own) == ()
    assert resolve("data_source", planned, own) == ("documents", "usage")
