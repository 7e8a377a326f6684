"""Usage: planes report it, the platform reads its sums."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import PlaneDep, ServicesDep, enrolled, require_platform
from tenantplane.controlplane.listings import Listing
from tenantplane.controlplane.usage.schemas import SpendAlert, UsageView
from tenantplane.controlplane.usage.service import PAGE
from tenantplane.core.apis.events import BatchAck, PlaneUsage, UsageBatch
from tenantplane.core.ids import ORG_ID_PATTERN

router = APIRouter(prefix="/v1")

_BEFORE_ALL: Final = UUID(int=0)
OrgIdPath = Annotated[str, Path(pattern=ORG_ID_PATTERN)]


@router.post("/planes/self/usage")
async def ingest_usage(services: ServicesDep, claims: PlaneDep, batch: UsageBatch) -> BatchAck:
    """Idempotent by event id; all of the batch or none."""
    async with services.database.system_tx(jobs.INGEST) as cursor:
        plane = await enrolled(services, cursor, claims)
        return await services.usage.ingest(cursor, plane.name, batch.events)


@router.get("/planes/self/usage")
async def acknowledged_usage(services: ServicesDep, claims: PlaneDep) -> PlaneUsage:
    """How much the plane has reported of each org: one that knows less lost some of it."""
    async with services.database.system_tx(jobs.INGEST) as cursor:
        plane = await enrolled(services, cursor, claims)
        return await services.usage.acknowledged(cursor, plane.name)


@router.get("/planes/self/usage/{org_id}")
async def reported_usage(
    services: ServicesDep,
    claims: PlaneDep,
    org_id: OrgIdPath,
    after: Annotated[UUID, Query()] = _BEFORE_ALL,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> UsageBatch:
    """What the plane has reported of an org, in pages by event id: for one that lost it."""
    async with services.database.system_tx(jobs.INGEST) as cursor:
        plane = await enrolled(services, cursor, claims)
        return await services.usage.reported(cursor, plane.name, org_id, after, limit)


@router.get("/tenants/{org_id}/usage", dependencies=[Depends(require_platform)])
async def read_usage(services: ServicesDep, org_id: OrgIdPath) -> UsageView:
    """Sums by month, model and tool, in the tenant's time zone, over all orgs below it too."""
    async with services.database.tenant_tx(org_id) as cursor:
        tenant = await services.registry.tenant(cursor, org_id)
    async with services.database.system_tx(jobs.USAGE) as system:
        return await services.usage.view(system, org_id, tenant.spec.time_zone)


@router.get("/tenants/{org_id}/alerts", dependencies=[Depends(require_platform)])
async def read_alerts(services: ServicesDep, org_id: OrgIdPath) -> Listing[SpendAlert]:
    """Thresholds of caps that the tenant's spend has reached, the newest first."""
    async with services.database.tenant_tx(org_id) as cursor:
        await services.registry.tenant(cursor, org_id)
        return Listing[SpendAlert](items=tuple(await services.usage.alerts(cursor, org_id)))
