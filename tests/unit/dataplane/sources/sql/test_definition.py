from __future__ import annotations

from typing import Any

import pytest

from tenantplane.core.errors import InvalidInput
from tenantplane.dataplane.sources.sql.administration import read_rows
from tenantplane.dataplane.sources.sql.definition import Table, read_definition

COLUMNS: list[dict[str, Any]] = [
    {"name": kind[:1], "type": kind} for kind in ("text", "integer", "number", "boolean", "date")
]
TABLE = Table.model_validate({"name": "t", "columns": COLUMNS})


def rows(*lines: str) -> list[list[str | None]]:
    return list(read_rows(lines, TABLE))


def test_cells_come_in_the_order_of_the_columns() -> None:
    assert rows("i,t", "1,a", "", ",b") == [
        ["a", "1", None, None, None],
        ["b", None, None, None, None],
    ]
    assert rows("t,d", '"a, b",2024-02-29') == [["a, b", None, None, None, "2024-02-29"]]


@pytest.mark.parametrize(
    "line",
    [
        "i,1.5",
        f"i,{2**63}",
        "i,x",
        "n,NaN",
        "n,1e",
        "b,maybe",
        "d,2024-13-01",
        "d,yesterday",
        "t,a\0b",
    ],
)
def test_a_cell_that_does_not_fit_is_named(line: str) -> None:
    header, _, cell = line.partition(",")
    with pytest.raises(InvalidInput, match=f"line 2, {header}"):
        rows(header, cell)


def test_at_most_ten_faults_are_named() -> None:
    with pytest.raises(InvalidInput) as refused:
        rows("i", *["x"] * 50)
    assert len(refused.value.errors) == 10


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("tables: []", "tables"),
        ("tables: [{name: t, columns: []}]", "columns"),
        ("tables: [{name: t, columns: [{name: a, type: money}]}]", "type"),
        ("tables: [{name: pg_t, columns: [{name: a, type: text}]}]", "begin with pg_"),
        ("tables: [{name: T, columns: [{name: a, type: text}]}]", "name"),
        ("tables: [{name: t, columns: [{name: ctid, type: text}]}]", "cannot be asked for"),
        ("tables: [{name: t, columns: [{name: a, type: text}, {name: a, type: text}]}]", "twice"),
        ("tables: [{name: t, columns: [{name: a, type: text}], owner: x}]", "owner"),
        ("a: [", "not YAML"),
        ("[]", "definition"),
    ],
)
def test_a_bad_definition_is_told_apart(spec: str, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_definition(spec)
    assert told in str(refused.value)
