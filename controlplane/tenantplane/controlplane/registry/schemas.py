"""Rows of the registry as its service reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tenantplane.controlplane.planes.snapshots import Status
from tenantplane.controlplane.registry.decisions import Held, ParentOrg
from tenantplane.core.apis.plan import PlanSpec
from tenantplane.core.apis.tenant import TenantSpec
from tenantplane.core.entitlements import Lists, OrgEntitlement, PlanEntitlement, RoleRow


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan with the counters that its last write left."""

    name: str
    spec: PlanSpec
    writer: str
    generation: int
    version: int
    price_book_version: int

    def held(self) -> Held:
        return Held(f"plan {self.name!r}", self.writer, self.generation)


@dataclass(frozen=True, slots=True)
class OrgRow:
    """An org. `plan` is None where it is deleted and retained; `path` runs from its root to it."""

    org_id: str
    root_org_id: str
    parent: str | None
    path: tuple[str, ...]
    status: Status
    spec: TenantSpec
    plan: str | None
    region: str
    writer: str
    generation: int
    token_epoch: int
    plane: str | None

    def held(self) -> Held:
        return Held(
            f"tenant {self.org_id!r}", self.writer, self.generation, self.status == "deleted"
        )

    def as_parent(self) -> ParentOrg:
        return ParentOrg(self.org_id, self.path, self.status, self.region)


@dataclass(frozen=True, slots=True)
class LineRow:
    """An org as its own snapshot and those below it are made of it. The manifest is read as it was
    stored: it was validated then, and thousands are read at once."""

    org_id: str
    root_org_id: str
    path: tuple[str, ...]
    status: Status
    spec: Mapping[str, Any]
    plan: str | None
    region: str
    token_epoch: int
    plane: str | None
    price_book_version: int
    version: int | None
    content_sha256: bytes | None
    excess_acknowledged_until: datetime | None
    entitlements: tuple[OrgEntitlement, ...]
    role_rows: tuple[RoleRow, ...]


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """A plan as its orgs' snapshots are made of it."""

    spec: PlanSpec
    entitlements: tuple[PlanEntitlement, ...]
    role_rows: tuple[RoleRow, ...]


def lists_of(org: LineRow, plan: PlanTerms | None) -> Lists:
    """The rows that decide what an org may use."""
    if plan is None:
        return Lists(org=org.entitlements, org_roles=org.role_rows)
    return Lists(plan.entitlements, org.entitlements, plan.role_rows, org.role_rows)


@dataclass(frozen=True, slots=True)
class OrgStanding:
    """What an access token says of an org."""

    org_id: str
    root_org_id: str
    status: Status
    plan: str
    region: str
    plane: str | None
    token_epoch: int
