"""Who may use what: ((plan ∪ allow) − deny), kind by kind (DESIGN section 4). Default deny.

The last term of the formula, ∩ role, is the data plane's: it knows the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tenantplane.core.apis.plan import PlanEntitlements
from tenantplane.core.apis.tenant import Grants, TenantEntitlements

Kind = Literal["tool", "model", "data_source"]
Effect = Literal["allow", "deny"]


@dataclass(frozen=True, slots=True)
class PlanEntitlement:
    """One row of a plan's allow-list."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class OrgEntitlement:
    """One row of an org's own list, over and above the plan or denied from it."""

    kind: Kind
    name: str
    effect: Effect


def plan_rows(entitlements: PlanEntitlements) -> list[PlanEntitlement]:
    """The rows that a plan's manifest means."""
    return [
        *(PlanEntitlement("tool", name) for name in entitlements.tools),
        *(PlanEntitlement("model", name) for name in entitlements.models),
        *(PlanEntitlement("data_source", name) for name in entitlements.data_sources),
    ]


def org_rows(entitlements: TenantEntitlements) -> list[OrgEntitlement]:
    """The rows that a tenant's manifest means."""

    def of(kind: Kind, grants: Grants) -> Iterator[OrgEntitlement]:
        yield from (OrgEntitlement(kind, name, "allow") for name in grants.allow)
        yield from (OrgEntitlement(kind, name, "deny") for name in grants.deny)

    return [
        *of("tool", entitlements.tools),
        *of("model", entitlements.models),
        *of("data_source", entitlements.data_sources),
    ]


def resolve(
    kind: Kind, plan: Iterable[PlanEntitlement], org: Iterable[OrgEntitlement]
) -> tuple[str, ...]:
    """The names of one kind that the org may use, sorted. A denial always wins."""
    own = [row for row in org if row.kind == kind]
    planned = {row.name for row in plan if row.kind == kind}
    allowed = {row.name for row in own if row.effect == "allow"}
    denied = {row.name for row in own if row.effect == "deny"}
    return tuple(sorted((planned | allowed) - denied))
