"""Who may use what: ((plan ∪ allow) − deny) ∩ role, kind by kind (DESIGN section 4). Default deny.

The control plane resolves what an org may use and signs it; planes narrow that to the caller's
roles, by the same function when they list and when they call.

A prompt may be named in one version, `greeting@3`; a denial of `greeting` denies every version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeVar

from tenantplane.core.apis.catalogue import Kind
from tenantplane.core.apis.names import NameLists
from tenantplane.core.apis.plan import PlanEntitlements
from tenantplane.core.apis.snapshot import RoleBound
from tenantplane.core.apis.tenant import Grants, PromptGrants, TenantEntitlements

_Row = TypeVar("_Row")
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


@dataclass(frozen=True, slots=True)
class RoleRow:
    """One row that keeps a name for holders of a role; several rows of a name: of one of them."""

    kind: Kind
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class Lists:
    """All rows that decide about one org."""

    plan: tuple[PlanEntitlement, ...] = ()
    org: tuple[OrgEntitlement, ...] = ()
    plan_roles: tuple[RoleRow, ...] = ()
    org_roles: tuple[RoleRow, ...] = ()

    def named(self, kind: Kind) -> set[str]:
        """What the lists of plan and org name, whatever they say of it; prompts without version."""
        rows: tuple[PlanEntitlement | OrgEntitlement, ...] = (*self.plan, *self.org)
        return {base_name(row.name) for row in rows if row.kind == kind}


class Why(StrEnum):
    """Why something is allowed, or is not."""

    GRANTED = "granted"
    NOT_IN_PLAN = "not_in_plan"
    DENIED = "denied"
    NO_PRICE = "no_price"
    PROMPT_WITHOUT_VERSION = "prompt_without_version"
    ROLE_MISSING = "role_missing"
    # The roles of who would ask are not known here.
    ROLE_UNKNOWN = "role_unknown"


@dataclass(frozen=True, slots=True)
class Row:
    """A row that counted: whose it is, and what it says. `roles` where it keeps for roles."""

    source: Literal["plan", "tenant"]
    effect: Literal["allow", "deny", "role_bound"]
    name: str
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with the rows that it was made by."""

    allowed: bool
    reason: Why
    rows: tuple[Row, ...] = ()


def plan_rows(entitlements: PlanEntitlements) -> list[PlanEntitlement]:
    """The rows that a plan's manifest means."""
    return _once(PlanEntitlement(kind, name) for kind, name in _named(entitlements))


def org_rows(entitlements: TenantEntitlements) -> list[OrgEntitlement]:
    """The rows that a tenant's manifest means."""

    def of(kind: Kind, grants: Grants | PromptGrants) -> Iterator[OrgEntitlement]:
        yield from (OrgEntitlement(kind, name, "allow") for name in grants.allow)
        yield from (OrgEntitlement(kind, name, "deny") for name in grants.deny)

    return _once(
        (
            *of("tool", entitlements.tools),
            *of("model", entitlements.models),
            *of("prompt", entitlements.prompts),
            *of("data_source", entitlements.data_sources),
        )
    )


def role_rows(entitlements: PlanEntitlements | TenantEntitlements) -> list[RoleRow]:
    """The rows that `roleBound` of either manifest means."""
    return _once(
        RoleRow(kind, name, bound.role)
        for bound in entitlements.role_bound
        for kind, name in _named(bound)
    )


def base_name(name: str) -> str:
    """`greeting@3` → `greeting`; other names are their own."""
    return name.partition("@")[0]


def resolve(
    kind: Kind, plan: Iterable[PlanEntitlement], org: Iterable[OrgEntitlement]
) -> tuple[str, ...]:
    """The names of one kind that the org may use, sorted. A denial always wins."""
    own = [row for row in org if row.kind == kind]
    planned = {row.name for row in plan if row.kind == kind}
    allowed = {row.name for row in own if row.effect == "allow"}
    denied = {row.name for row in own if row.effect == "deny"}
    return tuple(
        sorted(
            name
            for name in planned | allowed
            if name not in denied and base_name(name) not in denied
        )
    )


def bound_to_roles(rows: Iterable[RoleRow]) -> tuple[RoleBound, ...]:
    """What the rows of plan and org keep for roles, name by name, sorted."""
    roles: dict[tuple[Kind, str], set[str]] = {}
    for row in rows:
        roles.setdefault((row.kind, row.name), set()).add(row.role)
    return tuple(
        RoleBound(kind=kind, name=name, roles=tuple(sorted(holders)))
        for (kind, name), holders in sorted(roles.items())
    )


def for_roles(
    kind: Kind, names: Iterable[str], role_bound: Iterable[RoleBound], roles: Collection[str]
) -> tuple[str, ...]:
    """Those of `names` (resolved ones) that a holder of `roles` may use, in their order."""
    held = set(roles)
    kept = {b.name for b in role_bound if b.kind == kind and held.isdisjoint(b.roles)}
    return tuple(name for name in names if base_name(name) not in kept)


def explain(
    kind: Kind,
    name: str,
    lists: Lists,
    roles: Collection[str] | None,
    obtainable: Set[str] | None = None,
) -> Explanation:
    """Whether a holder of `roles` (None: not known) may use `name`, and because of which rows.

    `obtainable` are the names of this kind that there is something to hand out of: models with a
    price, prompts with a version; None where the kind needs nothing of the sort.
    """
    base = base_name(name)
    allows, denials = _allows(kind, base, lists), _denials(kind, base, lists)
    if not allows:
        return Explanation(False, Why.NOT_IN_PLAN, denials)
    resolved = resolve(kind, lists.plan, lists.org)
    if base not in map(base_name, resolved):
        return Explanation(False, Why.DENIED, denials)
    if obtainable is not None and base not in obtainable:
        lacking = Why.PROMPT_WITHOUT_VERSION if kind == "prompt" else Why.NO_PRICE
        return Explanation(False, lacking, allows)
    bounds = _bounds(kind, base, lists)
    needed = {role for bound in bounds for role in bound.roles}
    if needed and roles is None:
        return Explanation(False, Why.ROLE_UNKNOWN, bounds)
    if needed and needed.isdisjoint(roles or ()):
        return Explanation(False, Why.ROLE_MISSING, bounds)
    return Explanation(True, Why.GRANTED, (*allows, *bounds))


def _allows(kind: Kind, base: str, lists: Lists) -> tuple[Row, ...]:
    planned = [row for row in lists.plan if (row.kind, base_name(row.name)) == (kind, base)]
    own = _own(kind, base, lists, "allow")
    return (
        *(Row("plan", "allow", row.name) for row in planned),
        *(Row("tenant", "allow", row.name) for row in own),
    )


def _denials(kind: Kind, base: str, lists: Lists) -> tuple[Row, ...]:
    return tuple(Row("tenant", "deny", row.name) for row in _own(kind, base, lists, "deny"))


def _own(kind: Kind, base: str, lists: Lists, effect: Effect) -> list[OrgEntitlement]:
    return [
        row
        for row in lists.org
        if (row.kind, base_name(row.name), row.effect) == (kind, base, effect)
    ]


def _bounds(kind: Kind, base: str, lists: Lists) -> tuple[Row, ...]:
    def of(source: Literal["plan", "tenant"], rows: Iterable[RoleRow]) -> Iterator[Row]:
        roles = sorted(row.role for row in rows if (row.kind, row.name) == (kind, base))
        if roles:
            yield Row(source, "role_bound", base, tuple(roles))

    return (*of("plan", lists.plan_roles), *of("tenant", lists.org_roles))


def _once(rows: Iterable[_Row]) -> list[_Row]:
    # Kubernetes refuses a name that is listed twice; whoever comes without it means it once.
    return list(dict.fromkeys(rows))


def _named(lists: NameLists) -> Iterator[tuple[Kind, str]]:
    yield from (("tool", name) for name in lists.tools)
    yield from (("model", name) for name in lists.models)
    yield from (("prompt", name) for name in lists.prompts)
    yield from (("data_source", name) for name in lists.data_sources)
