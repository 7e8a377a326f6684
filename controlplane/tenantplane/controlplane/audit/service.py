"""Commitments to audit records: 32 bytes each, never content (R63). Trees come from them later."""

from __future__ import annotations

from collections.abc import Sequence

from tenantplane.controlplane.audit import repository
from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes.service import Planes
from tenantplane.controlplane.security import security_event
from tenantplane.core.apis.events import AuditCommitment, BatchAck
from tenantplane.core.errors import Conflict


class Audit:
    """Takes commitments in, each once."""

    def __init__(self, planes: Planes) -> None:
        self._planes = planes

    async def ingest(
        self, cursor: Cursor, plane: str, commitments: Sequence[AuditCommitment]
    ) -> BatchAck:
        """All or none. Raises Forbidden (`org_not_on_plane`) and Conflict (`record_changed`)."""
        await self._planes.require_placed(
            cursor, plane, dict.fromkeys((c.org_id for c in commitments), None)
        )
        accepted = await repository.insert(cursor, plane, commitments)
        changed = await repository.with_other_content(cursor, commitments)
        if changed is not None:
            security_event("audit_commitment_changed", plane=plane, record_id=changed)
            raise Conflict(
                f"Audit record {changed} is committed to with another entry.",
                hint="A commitment never changes.",
                code="record_changed",
            )
        return BatchAck(accepted=accepted, duplicate=len(commitments) - accepted)
