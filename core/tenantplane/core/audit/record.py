"""Audit records: canonical form, encryption, and the 32-byte entry that commits to each."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC
from typing import Annotated, Final, Literal, Self
from uuid import UUID

import rfc8785
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from tenantplane.core.apis.common import OrgId
from tenantplane.core.errors import Forbidden
from tenantplane.core.keys.envelope import DataKey, associated_data

SALT_BYTES: Final = 32
ENTRY_BYTES: Final = 32
_PURPOSE: Final = "audit_record"
# Content that RFC 8785 cannot say (see `_representable`) is kept as its JSON text under this name.
JSON_TEXT: Final = "tenantplane.io/json-text"
_MAX_SAFE_INTEGER: Final = 2**53 - 1
_MAX_DEPTH: Final = 64

Kind = Literal["model", "tool", "admin", "request"]
Status = Literal["completed", "failed", "interrupted"]


def _representable(value: object, depth: int = 0) -> bool:
    """Whether RFC 8785 can write it: I-JSON (RFC 7493) has no integer beyond 2^53, no NaN, and no
    lone surrogate. A model's tool arguments may have any of them, and nest without end."""
    match value:
        case int() | float():
            # A larger float would be written as an integer, and be read as one. False for NaN.
            return abs(value) <= _MAX_SAFE_INTEGER
        case str():
            return not any("\ud800" <= c <= "\udfff" for c in value)
        case list() | dict():
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            return depth < _MAX_DEPTH and all(_representable(part, depth + 1) for part in parts)
        case _:
            return True  # null, or no JSON at all: pydantic refuses that with its path


def _keep(value: object) -> object:
    """Evidence is kept whole: what canonical JSON cannot say is kept as text, not dropped, and
    the call that it belongs to does not fail for it."""
    return value if _representable(value) else {JSON_TEXT: json.dumps(value)}


Content = Annotated[JsonValue, BeforeValidator(_keep)]
_UtcTime = Annotated[AwareDatetime, AfterValidator(lambda at: at.astimezone(UTC))]


class AuditRecord(BaseModel):
    """One call of a run, or one request or administrative act. Content never leaves the plane."""

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
    request: Content = None  # messages, or tool arguments
    response: Content = None

    @model_validator(mode="after")
    def _calls_belong_to_runs(self) -> Self:
        if self.kind in ("model", "tool") and (self.run_id is None or self.call_no is None):
            raise ValueError("a record of a model or tool call has run_id and call_no")
        return self


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """What the plane stores; `entry` alone goes to the control plane."""

    record_id: UUID
    ciphertext: bytes = field(repr=False)
    entry: bytes


def canonical(record: AuditRecord) -> bytes:
    """RFC 8785."""
    return rfc8785.dumps(record.model_dump(mode="json"))


def seal(record: AuditRecord, data_key: DataKey) -> SealedRecord:
    """Encrypts under the org's data key, bound to org and record id.

    The entry commits to ciphertext and plaintext, since one AES-GCM ciphertext can be made to
    open under two keys to two texts (DESIGN section 8); the salt keeps a reader of the entry from
    guessing a short plaintext, and dies with the key.
    """
    salted = secrets.token_bytes(SALT_BYTES) + canonical(record)
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
