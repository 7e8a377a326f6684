"""Answers as they are kept for whoever asks the same again, and what becomes of a request by its
answer. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha256
from typing import Final
from uuid import UUID

from tenantplane.core.errors import Conflict, TenantplaneError, Unprocessable
from tenantplane.core.keys.envelope import DataKey, associated_data
from tenantplane.dataplane.ledger.requests import Claim, ClaimAnswer, ClaimStatus, RequestKey

Fields = Sequence[tuple[bytes, bytes]]

_PURPOSE: Final = "request_response"
_OWN_FIELDS: Final = b"x-tenantplane-"
# Of the answer itself. All others belong to one response: its length, its id, its limits' state.
_KEPT_FIELDS: Final = frozenset({b"content-type", b"cache-control"})
# Names the audit records of a run's calls, and stands in no answer before the first call
# (api/chat_bodies.py: run_headers).
CALLS_FIELD: Final = b"x-tenantplane-audit-records"
_IN_FLIGHT_RETRY_SECONDS: Final = 1.0
_BROKEN: Final = 500


class Fate(Enum):
    KEPT = auto()
    RELEASED = auto()


def fate(status: int, fields: Fields) -> Fate:
    """A refusal before the first call had no effect: the same request may come again, and be
    served. All else is what became of the request, and stays; a fault of ours, too, since nobody
    knows what was done before it."""
    refused = status >= 400 and status != _BROKEN
    called = any(name == CALLS_FIELD for name, _ in fields)
    return Fate.RELEASED if refused and not called else Fate.KEPT


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, status: int, fields: Fields, body: bytes) -> KeptAnswer:
        kept = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in fields
            if name in _KEPT_FIELDS or name.startswith(_OWN_FIELDS)
        )
        return cls(status, kept, body)

    def replayed(self) -> list[tuple[bytes, bytes]]:
        """Header fields of the answer when it is given again."""
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.fields]
        length = str(len(self.body)).encode()
        return [*fields, (b"content-length", length), (b"idempotent-replayed", b"true")]

    def seal(self, claim: Claim, key: DataKey) -> bytes:
        """A line of JSON (status, fields), then the body; under the org's key, bound to the row."""
        head = json.dumps([self.status, self.fields], separators=(",", ":")).encode()
        return key.encrypt(head + b"\n" + self.body, _bound(claim.key, claim.run_id))


def open_answer(sealed: bytes, key: RequestKey, run_id: UUID, data_key: DataKey) -> KeptAnswer:
    """Raises Forbidden (`ciphertext_refused`)."""
    head, _, body = data_key.decrypt(sealed, _bound(key, run_id)).partition(b"\n")
    status, fields = json.loads(head)
    return KeptAnswer(status, tuple((name, value) for name, value in fields), body)


def refusal(answer: ClaimAnswer) -> TenantplaneError:
    """Why a request that was not claimed is not served, where it has no answer to be given."""
    run_id = str(answer.run_id)
    match answer.status:
        case ClaimStatus.OTHER_BODY:
            return Unprocessable(
                "This Idempotency-Key came with another request before.",
                hint="Use a new key for each new request.",
                code="idempotency_key_reused",
            )
        case ClaimStatus.INTERRUPTED:
            return Conflict(
                f"The request with this Idempotency-Key was interrupted, and is not run again: run "
                f"{run_id} may have done its work.",
                hint="Its audit records say what it did. Use a new key to run it again.",
                code="request_interrupted",
                run_id=run_id,
            )
        case ClaimStatus.NOT_KEPT:
            return Conflict(
                f"The request with this Idempotency-Key was served by run {run_id}; its answer was "
                "too large to be kept.",
                hint="Its audit records say what it did. Use a new key to run it again.",
                code="response_not_kept",
                run_id=run_id,
            )
        case _:
            return Conflict(
                "The request with this Idempotency-Key is being served.",
                hint="Try again with the same key: its answer is given then.",
                code="request_in_flight",
                retry_after_seconds=_IN_FLIGHT_RETRY_SECONDS,
                run_id=run_id,
            )


def _bound(key: RequestKey, run_id: UUID) -> bytes:
    # Hashed: a principal or a key may hold what separates the parts.
    parts = json.dumps([key.principal, key.route, key.key]).encode()
    return associated_data(_PURPOSE, key.org_id, str(run_id), sha256(parts).hexdigest())
