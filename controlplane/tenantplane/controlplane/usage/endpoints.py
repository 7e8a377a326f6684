"""Usage: planes report it, the platform reads its sums."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import PlaneDep, ServicesDep, enrolled, require_platform
from tenantplane.controlplane.usage.schemas import UsageView
from tenantplane.core.apis.events import BatchAck, UsageBatch
from tenantplane.core.ids import ORG_ID_PATTERN

router = APIRouter(prefix="/v1")


@router.post("/planes/self/usage")
async def ingest_usage(services: ServicesDep, claims: PlaneDep, batch: UsageBatch) -> BatchAck:
    """Idempotent by event id; all of the batch or none."""
    async with services.database.system_tx(jobs.INGEST) as cursor:
        plane = await enrolled(services, cursor, claims)
        return await services.usage.ingest(cursor, plane.name, batch.events)


@router.get("/tenants/{org_id}/usage", dependencies=[Depends(require_platform)])
async def read_usage(
    services: ServicesDep, org_id: Annotated[str, Path(pattern=ORG_ID_PATTERN)]
) -> UsageView:
    """Sums by month, model and tool, in the tenant's time zone."""
    async with services.database.tenant_tx(org_id) as cursor:
        tenant = await services.registry.tenant(cursor, org_id)
        return await services.usage.by_month(cursor, org_id, tenant.spec.time_zone)
