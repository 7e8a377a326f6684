"""An org held for a change of what its snapshot says."""

from __future__ import annotations

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.registry import decisions, repository
from tenantplane.controlplane.registry.schemas import OrgRow


async def hold_org(cursor: Cursor, org_id: str) -> OrgRow:
    """The org as it is once the row of its root is held. Raises NotFound, also where it was
    deleted."""
    org = await repository.read_org(cursor, org_id)
    if org is not None:
        await repository.lock_roots(cursor, [org.root_org_id])
        org = await repository.lock_org(cursor, org_id)
    if org is None or org.status == "deleted":
        raise decisions.no_such_tenant(org_id)
    return org
