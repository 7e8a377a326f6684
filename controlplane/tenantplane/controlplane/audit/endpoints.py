"""Planes commit to audit records here."""

from __future__ import annotations

from fastapi import APIRouter

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import PlaneDep, ServicesDep, enrolled
from tenantplane.core.apis.events import AuditBatch, BatchAck

router = APIRouter(prefix="/v1")


@router.post("/planes/self/audit")
async def ingest_commitments(
    services: ServicesDep, claims: PlaneDep, batch: AuditBatch
) -> BatchAck:
    """Idempotent by record id; all of the batch or none."""
    async with services.database.system_tx(jobs.INGEST) as cursor:
        plane = await enrolled(services, cursor, claims)
        return await services.audit.ingest(cursor, plane.name, batch.commitments)
