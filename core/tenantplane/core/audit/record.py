"""Audit records: canonical form, encryption, and the 32-byte entry that commits to each."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from tenantplane.core.apis.common import OrgId
from tenantplane.core.audit.content import NOTHING, Content
from tenantplane.core.errors import Forbidden
from tenantplane.core.keys.envelope import DataKey, associated_data

SALT_BYTES: Final = 32
ENTRY_BYTES: Final = 32
_PURPOSE: Final = "audit_record"
_LACKS_ITS_RUN: Final = "a record of a model or tool call has run_id and call_no"

Kind = Literal["model", "tool", "admin", "request"]
Status = Literal["completed", "failed", "interrupted"]

_UtcTime = Annotated[AwareDatetime, AfterValidator(lambda at: at.astimezone(UTC))]


class AuditRecord(BaseModel):
    """One call of a run, or one request or administrative act, as a reader gets it. Content never
    leaves the plane."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    record_id: UUID  # UUIDv7
    org_id: OrgId
    user_id: str
    run_id: UUID | None = None
    thread_id: str | None = None
    call_no: int | None = Field(default=None, ge=0)
    kind: Kind
    resource: str  # model or tool id, route, or administrative act
    occurred_at: _UtcTime
    status: Status
    request: JsonValue = None  # messages, or tool arguments
    response: JsonValue = None

    @model_validator(mode="after")
    def _calls_belong_to_runs(self) -> Self:
        if _lacks_its_run(self.kind, self.run_id, self.call_no):
            raise ValueError(_LACKS_ITS_RUN)
        return self


@dataclass(slots=True)  # frozen, its fields would take thrice the time; nobody changes it
class RecordToSeal:
    """An AuditRecord on its way into the ledger: the same fields, of which this process is sure.
    Validating each once more cost 33 µs a call; whoever opens it does.

    Raises ValueError for a call without its run, and for a time without its zone.
    """

    record_id: UUID
    org_id: str
    user_id: str
    kind: Kind
    resource: str
    occurred_at: datetime
    status: Status
    run_id: UUID | None = None
    thread_id: str | None = None
    call_no: int | None = None
    request: Content = field(default=NOTHING, repr=False)
    response: Content = field(default=NOTHING, repr=False)

    def __post_init__(self) -> None:
        if _lacks_its_run(self.kind, self.run_id, self.call_no):
            raise ValueError(_LACKS_ITS_RUN)
        if self.occurred_at.tzinfo is None:
            raise ValueError("occurred_at has no time zone")


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """What the plane stores; `entry` alone goes to the control plane."""

    record_id: UUID
    ciphertext: bytes = field(repr=False)
    entry: bytes


def canonical(record: RecordToSeal) -> bytes:
    """RFC 8785: the keys in their order, and only values that orjson writes alike."""
    fields = {
        "call_no": record.call_no,
        "format": 1,
        "kind": record.kind,
        "occurred_at": record.occurred_at.astimezone(UTC),
        "org_id": record.org_id,
        "record_id": record.record_id,
        "request": orjson.Fragment(record.request),
        "resource": record.resource,
        "response": orjson.Fragment(record.response),
        "run_id": record.run_id,
        "status": record.status,
        "thread_id": record.thread_id,
        "user_id": record.user_id,
    }
    return orjson.dumps(fields, option=orjson.OPT_UTC_Z)


def seal(record: RecordToSeal, data_key: DataKey) -> SealedRecord:
    """Encrypts under the org's data key, bound to org and record id.

    The entry commits to ciphertext and plaintext, since one AES-GCM ciphertext can be made to
    open under two keys to two texts (DESIGN section 8); the salt keeps a reader of the entry from
    guessing a short plaintext, and dies with the key.
    """
    salted = os.urandom(SALT_BYTES) + canonical(record)
    ciphertext = data_key.encrypt(salted, _associated(record.org_id, record.record_id))
    return SealedRecord(record.record_id, ciphertext, entry_of(ciphertext, salted))


def open_sealed(org_id: str, sealed: SealedRecord, data_key: DataKey) -> AuditRecord:
    """The record, once its entry is found to commit to it. Raises Forbidden:
    `ciphertext_refused` (changed, moved, another key) or `entry_refused` (not what was committed).
    """
    salted = data_key.decrypt(sealed.ciphertext, _associated(org_id, sealed.record_id))
    if not hmac.compare_digest(entry_of(sealed.ciphertext, salted), sealed.entry):
        raise _not_committed(sealed.record_id)
    try:
        record = AuditRecord.model_validate_json(salted[SALT_BYTES:])
    except ValidationError:
        # `from None`: the error would quote the content.
        raise _not_committed(sealed.record_id) from None
    if (record.org_id, record.record_id) != (org_id, sealed.record_id):
        raise _not_committed(sealed.record_id)
    return record


def entry_of(ciphertext: bytes, salted_plaintext: bytes) -> bytes:
    """`sha256(ciphertext ‖ sha256(salt ‖ plaintext))`, 32 bytes."""
    return hashlib.sha256(ciphertext + hashlib.sha256(salted_plaintext).digest()).digest()


def _associated(org_id: str, record_id: UUID) -> bytes:
    return associated_data(_PURPOSE, org_id, str(record_id))


def _not_committed(record_id: UUID) -> Forbidden:
    return Forbidden(
        f"Audit record {record_id} is not what its entry commits to.", code="entry_refused"
    )


def _lacks_its_run(kind: Kind, run_id: UUID | None, call_no: int | None) -> bool:
    return (run_id is None or call_no is None) and kind in ("model", "tool")
