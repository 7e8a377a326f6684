"""Grants alone: what no migration gave a role is refused before any policy is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest
from psycopg import sql

from tests.fixtures.isolation import PlaneDatabase, Refusal
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation.declared import ROLES, all_tables, in_part, may_in_full
from tests.proofs.isolation.two_orgs import opened

pytestmark = pytest.mark.proof

_ATTEMPTS: Final[dict[str, Any]] = {
    "SELECT": "SELECT t FROM {table} t LIMIT 0",  # every column
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    # Without a look at any column, which would be refused for want of SELECT.
    "UPDATE": "UPDATE {table} SET {column} = DEFAULT WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table}",
    "TRIGGER": "CREATE TRIGGER t BEFORE UPDATE ON {table} FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
}
_A_COLUMN: Final = (
    "SELECT attname AS name FROM pg_attribute"
    " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum LIMIT 1"
)
_ALL_COLUMNS: Final = (
    "SELECT attname AS name FROM pg_attribute"
    " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)


@pytest.mark.req("R3", "R6")
@pytest.mark.fault("F14", "F15")
@pytest.mark.parametrize(
    ("name", "table", "role", "given"),
    in_part(),
    ids=[f"{name}-{table}-{role}-in-part" for name, table, role, _ in in_part()],
)
async def test_of_a_table_that_it_reads_in_part_a_role_reads_no_other_column(
    isolation_databases: Mapping[str, PlaneDatabase],
    name: str,
    table: str,
    role: str,
    given: frozenset[str],
    proof_cases: ProofCases,
) -> None:
    """Such as ciphertexts, which SQL of a model has no use for, and what proofs are made with."""
    database = isolation_databases[name]
    columns = {row["name"] for row in await database.look(_ALL_COLUMNS, table)}
    subject = sql.Identifier(*table.split("."))
    readable = set()
    async with opened(database) as inside:
        await inside.become(role, "nobody")
        for column in columns:
            text = sql.SQL("SELECT {} FROM {} LIMIT 0").format(sql.Identifier(column), subject)
            done = await inside.attempt(text)
            if isinstance(done, Refusal):
                assert "permission denied" in done.message, (column, done)
            else:
                readable.add(column)
    assert readable == given
    assert readable < columns
    proof_cases.add(len(columns))


@pytest.mark.req("R6")
@pytest.mark.fault("F23")
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("name", "table"), all_tables(), ids=str)
async def test_a_role_does_what_it_was_given_and_no_more(
    isolation_databases: Mapping[str, PlaneDatabase],
    name: str,
    table: str,
    role: str,
    proof_cases: ProofCases,
) -> None:
    database = isolation_databases[name]
    columns = await database.look(_A_COLUMN, table)
    subject = sql.Identifier(*table.split("."))
    async with opened(database) as inside:
        # Not by a closed schema: each table is refused by itself.
        await inside.open(
            sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(
                sql.Identifier(table.partition(".")[0]), inside.role(role)
            )
        )
        await inside.become(role, "nobody")
        for verb, text in _ATTEMPTS.items():
            if not columns and verb == "UPDATE":
                continue  # a table of no columns, which is only locked
            column = sql.Identifier(columns[0]["name"] if columns else "none")
            done = await inside.attempt(sql.SQL(text).format(table=subject, column=column))
            if verb in may_in_full(name, table, role):
                # Whatever came of it, it was not for want of a grant.
                assert "permission denied" not in str(done), (verb, done)
            else:
                assert isinstance(done, Refusal), (verb, done)
                # Of this very table: no function, no column and no partition of it.
                denied = f"permission denied for table {table.partition('.')[2]}"
                assert done.message == denied, (verb, done)
            proof_cases.add()
