"""GET /tp/v1/audit-records: the org's own evidence, opened in the plane that holds it (R63).

A user reads the records of its own calls; who has the role `admin` or `auditor` reads the org's.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, LiteralString
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from tenantplane.core.audit.record import AuditRecord, SealedRecord, open_sealed
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import NotFound
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.request import request_tenant
from tenantplane.dataplane.ledger.keys import DataKeys

_SEES_ALL: Final = frozenset({"admin", "auditor"})
MAX_PAGE: Final = 1000

_READ_ONE: LiteralString = """
SELECT r.record_id, r.ciphertext, r.entry
  FROM dataplane.audit_record r
  JOIN dataplane.intent i ON i.org_id = r.org_id AND i.intent_id = r.intent_id
 WHERE r.org_id = %(org_id)s AND r.record_id = %(record_id)s
   AND (%(sees_all)s OR i.user_id = %(user_id)s)
"""
_READ_RUN: LiteralString = """
SELECT r.record_id, r.ciphertext, r.entry
  FROM dataplane.audit_record r
  JOIN dataplane.intent i ON i.org_id = r.org_id AND i.intent_id = r.intent_id
 WHERE r.org_id = %(org_id)s AND r.run_id = %(run_id)s
   AND (%(sees_all)s OR i.user_id = %(user_id)s)
 ORDER BY r.record_id
 LIMIT %(limit)s
"""


class AuditRecordView(BaseModel):
    """The record in clear, and the entry that the control plane's log commits to."""

    record: AuditRecord
    entry_hex: str


class AuditRecordPage(BaseModel):
    items: list[AuditRecordView]


def audit_record_routes(database: Database, data_keys: DataKeys) -> APIRouter:
    router = APIRouter()
    records = _Records(database, data_keys)

    @router.get("/tp/v1/audit-records/{record_id}")
    async def one(record_id: UUID, request: Request) -> AuditRecordView:
        tenant = request_tenant(request.scope).context
        found = await records.read(tenant, _READ_ONE, record_id=record_id)
        if not found:
            raise NotFound(f"There is no audit record {record_id}.", code="audit_record_not_found")
        return found[0]

    @router.get("/tp/v1/audit-records")
    async def of_run(
        run_id: UUID, request: Request, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE
    ) -> AuditRecordPage:
        tenant = request_tenant(request.scope).context
        return AuditRecordPage(
            items=await records.read(tenant, _READ_RUN, run_id=run_id, limit=limit)
        )

    return router


class _Records:
    def __init__(self, database: Database, data_keys: DataKeys) -> None:
        self._database = database
        self._data_keys = data_keys

    async def read(
        self, tenant: TenantContext, query: LiteralString, **wanted: UUID | int
    ) -> list[AuditRecordView]:
        values: dict[str, Any] = {
            "org_id": tenant.org_id,
            "user_id": tenant.user_id,
            "sees_all": bool(tenant.roles & _SEES_ALL),
            **wanted,
        }
        async with self._database.tenant_tx(tenant.org_id) as cursor:
            await cursor.execute(query, values)
            rows = await cursor.fetchall()
        if not rows:
            return []
        # Outside of the transaction: opening the org's key may ask a KMS.
        data_key = await self._data_keys.of(tenant.org_id)
        return [
            AuditRecordView(
                record=open_sealed(tenant.org_id, _sealed(row), data_key),
                entry_hex=bytes(row["entry"]).hex(),
            )
            for row in rows
        ]


def _sealed(row: dict[str, Any]) -> SealedRecord:
    return SealedRecord(row["record_id"], bytes(row["ciphertext"]), bytes(row["entry"]))
