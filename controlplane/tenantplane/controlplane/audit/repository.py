"""Writes commitments to audit records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenantplane.controlplane.audit import statements
from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.core.apis.events import AuditCommitment


async def insert(cursor: Cursor, plane: str, commitments: Sequence[AuditCommitment]) -> int:
    """How many were new."""
    await cursor.execute(statements.INSERT_COMMITMENTS, {"plane": plane, **_columns(commitments)})
    return cursor.rowcount


async def with_other_content(cursor: Cursor, commitments: Sequence[AuditCommitment]) -> str | None:
    """The id of a record that is stored with another commitment than it has here."""
    await cursor.execute(statements.OTHER_CONTENT, _columns(commitments))
    row = await cursor.fetchone()
    return None if row is None else str(row["record_id"])


def _columns(commitments: Sequence[AuditCommitment]) -> dict[str, list[Any]]:
    return {
        "org_ids": [c.org_id for c in commitments],
        "record_ids": [c.record_id for c in commitments],
        "run_ids": [c.run_id for c in commitments],
        "entries": [bytes.fromhex(c.entry_hex) for c in commitments],
        "times": [c.occurred_at for c in commitments],
    }
