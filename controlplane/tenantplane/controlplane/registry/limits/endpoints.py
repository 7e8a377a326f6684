"""Raises, top-ups and acknowledged excesses over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import ActorDep, ServicesDep, require_platform
from tenantplane.controlplane.listings import Listing
from tenantplane.core.apis.raises import ExcessAcknowledged, RaiseRequest, RaiseView
from tenantplane.core.ids import ORG_ID_PATTERN

router = APIRouter(prefix="/v1/tenants/{org_id}", dependencies=[Depends(require_platform)])

OrgPath = Annotated[str, Path(pattern=ORG_ID_PATTERN)]


@router.post("/raises", status_code=201)
async def create_raise(
    services: ServicesDep, actor: ActorDep, org_id: OrgPath, request: RaiseRequest
) -> RaiseView:
    """More room under the tenant's caps, in force on its plane within a second."""
    async with services.database.system_tx(jobs.REGISTRY) as cursor:
        return await services.limits.raise_caps(cursor, org_id, request, actor)


@router.get("/raises")
async def list_raises(services: ServicesDep, org_id: OrgPath) -> Listing[RaiseView]:
    async with services.database.tenant_tx(org_id) as cursor:
        await services.registry.tenant(cursor, org_id)
        raises = await services.limits.raises(cursor, org_id)
    return Listing[RaiseView](items=tuple(raises))


@router.delete("/raises/{raise_id}")
async def end_raise(
    services: ServicesDep, actor: ActorDep, org_id: OrgPath, raise_id: UUID
) -> RaiseView:
    """Ends it now; the record that it was stays."""
    async with services.database.system_tx(jobs.REGISTRY) as cursor:
        return await services.limits.end_raise(cursor, org_id, raise_id, actor)


@router.post("/excess/acknowledge")
async def acknowledge_excess(
    services: ServicesDep, actor: ActorDep, org_id: OrgPath
) -> ExcessAcknowledged:
    """Lets a tenant go on whose provider reported more than was held."""
    async with services.database.system_tx(jobs.REGISTRY) as cursor:
        return await services.limits.acknowledge_excess(cursor, org_id, actor)
