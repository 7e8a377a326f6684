"""What a provider says it was asked for, as CSV, beside what the ledger says. Pure.

Two forms, told apart by their header; amounts in USD at the prices that the calls were sold at:

    call_id,cost_usd[,input_tokens,output_tokens]     one row a call; its id is the intent's
    day,model,cost_usd                                one row a day (UTC) and model
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final
from uuid import UUID

from tenantplane.core.errors import FieldError, InvalidInput
from tenantplane.core.money import NanoUSD, parse_usd

_CALLS: Final = {"call_id", "cost_usd"}
_TOTALS: Final = {"day", "model", "cost_usd"}
_MOST_FAULTS: Final = 20


@dataclass(frozen=True, slots=True)
class ReportedCall:
    cost_nanousd: NanoUSD
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """By call, or by day and model; the other one is empty."""

    calls: Mapping[UUID, ReportedCall] = field(default_factory=dict)
    totals: Mapping[tuple[date, str], NanoUSD] = field(default_factory=dict)


def read_report(lines: Iterable[str]) -> ProviderReport:
    """Raises InvalidInput that names each bad line."""
    rows = csv.DictReader(lines)
    header = set(rows.fieldnames or ())
    if not (header >= _CALLS or header >= _TOTALS):
        raise InvalidInput(
            "The provider's report has neither call_id and cost_usd, nor day, model and cost_usd.",
            hint="Its first line names the columns.",
        )
    calls: dict[UUID, ReportedCall] = {}
    totals: dict[tuple[date, str], NanoUSD] = {}
    faults: list[FieldError] = []
    for number, row in enumerate(rows, start=2):
        try:
            cost = parse_usd(row["cost_usd"] or "")
            if "call_id" in header:
                _add_call(calls, row, cost)
            else:
                key = (date.fromisoformat(row["day"] or ""), row["model"] or "")
                totals[key] = NanoUSD(totals.get(key, NanoUSD(0)) + cost)
        except ValueError as bad:
            faults.append(FieldError(f"line {number}", str(bad)))
    if faults:
        raise InvalidInput(
            f"{len(faults)} lines of the provider's report cannot be read.",
            errors=tuple(faults[:_MOST_FAULTS]),
        )
    return ProviderReport(calls, totals)


def _add_call(
    calls: dict[UUID, ReportedCall], row: Mapping[str, str | None], cost: NanoUSD
) -> None:
    call_id = UUID(row["call_id"] or "")
    if call_id in calls:
        raise ValueError(f"call {call_id} is there twice")
    calls[call_id] = ReportedCall(
        cost, int(row.get("input_tokens") or 0), int(row.get("output_tokens") or 0)
    )
