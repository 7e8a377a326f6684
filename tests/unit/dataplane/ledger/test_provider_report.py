"""A provider's report in both its forms; each bad line is named."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import pytest

from tenantplane.core.errors import InvalidInput
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.provider_report import ReportedCall, read_report

CALL = "0192f7a0-0000-7000-8000-000000000001"


def test_calls_with_and_without_tokens() -> None:
    report = read_report(["call_id,cost_usd,output_tokens", f"{CALL},0.25,9"])
    assert report.calls == {UUID(CALL): ReportedCall(NanoUSD(250_000_000), 0, 9)}
    assert report.totals == {}
    assert read_report(["call_id,cost_usd", f"{CALL},1"]).calls[UUID(CALL)].output_tokens == 0


def test_totals_of_one_day_and_model_add_up() -> None:
    report = read_report(["model,day,cost_usd", "m,2026-02-01,0.1", "m,2026-02-01,0.2"])
    assert report.totals == {(date(2026, 2, 1), "m"): 300_000_000}


@pytest.mark.parametrize(
    "lines",
    [[], ["a,b"], ["day,model"], ["call_id,cost"]],
    ids=["empty", "other columns", "no cost", "no amount"],
)
def test_another_header_is_refused(lines: list[str]) -> None:
    with pytest.raises(InvalidInput, match="call_id and cost_usd"):
        read_report(lines)


def test_each_bad_line_is_named() -> None:
    lines = ["call_id,cost_usd", f"{CALL},1", f"{CALL},2", "x,1", f"{CALL[:-1]}2,-1", "y"]
    with pytest.raises(InvalidInput) as refused:
        read_report(lines)
    assert [error.path for error in refused.value.errors] == [
        "line 3",
        "line 4",
        "line 5",
        "line 6",
    ]
