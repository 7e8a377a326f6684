"""Rows of the ledger on their way into Postgres, and what it answers for each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import orjson
from psycopg import DataError

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


def intent_parameters(rows: Sequence[IntentRow], proofs: Mapping[str, str]) -> dict[str, object]:
    """Of `sql/append_intents.sql`. Each org's rows are taken with its proof."""
    return {
        "proofs": _json(proofs),
        "intents": _json(rows),
        "requests": [row.request_ciphertext for row in rows],
    }


def outcome_parameters(rows: Sequence[OutcomeRow], proofs: Mapping[str, str]) -> dict[str, object]:
    """Of `sql/append_outcomes.sql`. Each org's rows are taken with its proof."""
    return {
        "proofs": _json(proofs),
        "outcomes": _json(rows),
        "ciphertexts": [row.ciphertext for row in rows],
        "entries": [row.entry for row in rows],
    }


def outcome_answers(
    rows: Sequence[OutcomeRow],
    statuses: Sequence[str],
    standing: Sequence[tuple[str, str, int]] | None,
) -> list[OutcomeAnswer]:
    """Where `standing` is None, all rows stand as they were sent."""
    if standing is None:
        return [
            OutcomeAnswer(OutcomeStatus(status), row.event_id, row.record_id, row.cost_nanousd)
            for row, status in zip(rows, statuses, strict=True)
        ]
    return [
        OutcomeAnswer(OutcomeStatus(status), UUID(event), UUID(record), NanoUSD(cost))
        for status, (event, record, cost) in zip(statuses, standing, strict=True)
    ]


def slots_to_json(slots: Iterable[Slot]) -> str:
    return _json(tuple(slots))


def slots_from_json(text: str) -> tuple[Slot, ...]:
    return tuple(Slot(**slot) for slot in json.loads(text))


def _json(value: object) -> str:
    # One text for a batch, since psycopg adapts lists in Python: as 19 lists, 16 intents took 3.6 ms,
    # so 0.5 ms. Dataclasses, UUIDs and times are orjson's own; bytes go apart, as arrays.
    try:
        return orjson.dumps(value, default=_apart).decode()
    except orjson.JSONEncodeError as refused:
        # A lone surrogate, a number beyond 64 bits: the row is refused as Postgres would, alone.
        raise DataError("a value that no column can hold") from refused


def _apart(_content: object) -> None:
    return None
