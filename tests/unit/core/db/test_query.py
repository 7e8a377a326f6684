from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tenantplane.core.db.query import QueryLimits, refusal_of, refuse_costly, refuse_long
from tenantplane.core.errors import Unprocessable

LIMITS = QueryLimits(cost=100, row_chars=100)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (psycopg.errors.QueryCanceled(), "sql_timeout"),
        (psycopg.errors.LockNotAvailable(), "sql_busy"),
        (psycopg.errors.OutOfMemory(), "sql_too_large"),
        (psycopg.errors.ConfigurationLimitExceeded(), "sql_too_large"),
        (psycopg.errors.ProgramLimitExceeded(), "sql_too_large"),
        (psycopg.errors.DivisionByZero(), "sql_refused"),
        (psycopg.errors.InsufficientPrivilege(), "sql_refused"),
        (psycopg.errors.SyntaxError(), "sql_refused"),
        (psycopg.errors.InternalError_(), "sql_refused"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_its_sql_did_is_told_to_the_model(error: psycopg.Error, code: str) -> None:
    refusal = refusal_of(error, LIMITS)
    assert refusal is not None
    assert refusal.error_code == code


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the connection is lost"),
        psycopg.errors.AdminShutdown(),
        psycopg.errors.DeadlockDetected(),
        psycopg.InterfaceError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_server_is_no_fault_of_the_sql(error: psycopg.Error) -> None:
    assert refusal_of(error, LIMITS) is None


def test_the_estimate_decides_and_stays_unsaid() -> None:
    refuse_costly({"QUERY PLAN": [{"Plan": {"Total Cost": 100.0}}]}, LIMITS)
    rows: list[dict[str, Any] | None] = [
        {"QUERY PLAN": [{"Plan": {"Total Cost": 100.01}}]},
        {"QUERY PLAN": [{"Plan": {"Total Cost": float("nan")}}]},
        {"QUERY PLAN": []},
        None,
    ]
    for row in rows:
        with pytest.raises(Unprocessable) as refused:
            refuse_costly(row, LIMITS)
        assert "100" not in str(refused.value)


def test_a_row_that_was_cut_is_no_answer() -> None:
    assert refuse_long("x" * 100, LIMITS) == "x" * 100
    with pytest.raises(Unprocessable, match="longer than 100 characters"):
        refuse_long("x" * 101, LIMITS)
