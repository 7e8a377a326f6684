"""What a tenant may use, and why or why not, over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import ServicesDep, require_platform
from tenantplane.controlplane.registry.entitlements.service import Caller
from tenantplane.core.apis.access import EntitlementsView, ExplanationView
from tenantplane.core.apis.catalogue import Kind
from tenantplane.core.apis.common import PROMPT_PATTERN, Name
from tenantplane.core.ids import ORG_ID_PATTERN

router = APIRouter(
    prefix="/v1/tenants/{org_id}/entitlements", dependencies=[Depends(require_platform)]
)

OrgPath = Annotated[str, Path(pattern=ORG_ID_PATTERN)]


# Plans and prompts are the platform's: a tenant's own transaction does not see them.


@router.get("")
async def list_entitlements(services: ServicesDep, org_id: OrgPath) -> EntitlementsView:
    async with services.database.system_tx(jobs.REGISTRY_READ) as cursor:
        return await services.entitlements.entitled(cursor, org_id)


@router.get("/explain")
async def explain_entitlement(
    services: ServicesDep,
    org_id: OrgPath,
    name: Annotated[str, Query(pattern=PROMPT_PATTERN)],
    kind: Kind = "tool",
    roles: Annotated[list[Name] | None, Query(max_length=100)] = None,
    no_roles: bool = False,
    key_id: Annotated[str | None, Query(max_length=100)] = None,
    user_id: Annotated[str | None, Query(max_length=200)] = None,
) -> ExplanationView:
    """For a caller with `roles` (or `no_roles`), or with those of a key or of a user's keys."""
    named = None if roles is None and not no_roles else tuple(roles or ())
    caller = Caller(named, key_id, user_id)
    async with services.database.system_tx(jobs.REGISTRY_READ) as cursor:
        return await services.entitlements.explain(cursor, org_id, kind, name, caller)
