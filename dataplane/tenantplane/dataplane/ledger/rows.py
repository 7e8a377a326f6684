"""Rows of the ledger on their way into Postgres, and what it answers for each."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from tenantplane.core.apis.events import CallKind, Stage
from tenantplane.core.money import NanoUSD
from tenantplane.core.valkey.requests import Slot


class IntentStatus(StrEnum):
    """What `dataplane.append_intents` answers; its comment says what each means."""

    OK = "ok"
    FORGED = "forged"
    EPOCH = "epoch"
    LATE = "late"
    DUPLICATE = "duplicate"
    CLOSED = "closed"


class OutcomeStatus(StrEnum):
    """What `dataplane.append_outcomes` answers; its comment says what each means."""

    OK = "ok"
    DUPLICATE = "duplicate"
    FINAL = "final"
    UNKNOWN = "unknown"
    FORGED = "forged"


@dataclass(frozen=True, slots=True)
class IntentRow:
    """A call that is about to be made. After `commit_by` its hold may be gone: refused then."""

    org_id: str
    intent_id: UUID
    root_org_id: str
    run_id: UUID
    call_no: int
    thread_id: str | None
    user_id: str
    key_id: str | None
    kind: CallKind
    resource: str
    hold_nanousd: NanoUSD
    price_book_version: int
    idempotency_key: str | None
    epoch: int
    slots: tuple[Slot, ...]
    request_ciphertext: bytes = field(repr=False)
    commit_by: datetime
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What came of a call, with its sealed audit record."""

    org_id: str
    intent_id: UUID
    stage: Stage
    event_id: UUID
    record_id: UUID
    input_tokens: int
    output_tokens: int
    cost_nanousd: NanoUSD
    occurred_at: datetime
    ciphertext: bytes = field(repr=False)
    entry: bytes


@dataclass(frozen=True, slots=True)
class OutcomeAnswer:
    """`event_id`, `record_id` and `cost_nanousd` are those that stand, whoever wrote them."""

    status: OutcomeStatus
    event_id: UUID
    record_id: UUID
    cost_nanousd: NanoUSD


def slots_to_json(slots: Iterable[Slot]) -> str:
    return json.dumps([asdict(slot) for slot in slots])


def slots_from_json(text: str) -> tuple[Slot, ...]:
    return tuple(Slot(**slot) for slot in json.loads(text))
