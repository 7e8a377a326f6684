"""What planes send up: usage events and commitments to audit records. Never content."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from tenantplane.core.apis.common import Wire

Stage = Literal["estimated", "actual"]
CallKind = Literal["model", "tool"]


class UsageEvent(Wire):
    """One step of one call's cost. The sum of `delta_nanousd` over events is the ledger."""

    event_id: UUID
    org_id: str
    root_org_id: str
    user_id: str
    key_id: str | None = None
    run_id: UUID
    call_no: int
    thread_id: str | None = None
    intent_id: UUID
    stage: Stage
    kind: CallKind
    resource: str
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    cost_nanousd: int = Field(ge=0)
    delta_nanousd: int
    price_book_version: int
    provider_excess: bool = False
    occurred_at: datetime


class AuditCommitment(Wire):
    """Entry of one audit record: 32 bytes in hex that commit to ciphertext and plaintext."""

    record_id: UUID
    org_id: str
    run_id: UUID
    entry_hex: str = Field(pattern=r"^[0-9a-f]{64}$")
    occurred_at: datetime


class UsageBatch(Wire):
    events: tuple[UsageEvent, ...] = Field(max_length=1000)


class AuditBatch(Wire):
    commitments: tuple[AuditCommitment, ...] = Field(max_length=1000)


class OrgUsage(Wire):
    """What the control plane knows of one org's events: how many, and the sum of their deltas."""

    org_id: str
    events: int
    nanousd: int


class PlaneUsage(Wire):
    """All that a plane has reported and the control plane acknowledged, by org."""

    orgs: tuple[OrgUsage, ...]


class BatchAck(Wire):
    """`accepted` were new, `duplicate` were there already: both are done with."""

    accepted: int
    duplicate: int
