"""Grants alone: what no migration gave a role is refused before any policy is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest
from psycopg import sql

from tests.fixtures.isolation import PlaneDatabase, Refusal
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation.declared import ROLES, all_tables, may_in_full
from tests.proofs.isolation.two_orgs import opened

pytestmark = pytest.mark.proof

_ATTEMPTS: Final[dict[str, Any]] = {
    "SELECT": "SELECT t FROM {table} t LIMIT 0",  # every column
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET {column} = {column} WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table}",
    "TRIGGER": "CREATE TRIGGER t BEFORE UPDATE ON {table} FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
}
_A_COLUMN: Final = (
    "SELECT attname AS name FROM pg_attribute"
    " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum LIMIT 1"
)


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
            if not columns and verb in ("INSERT", "UPDATE"):
                continue  # a table of no columns, which is only locked
            column = sql.Identifier(columns[0]["name"] if columns else "none")
            done = await inside.attempt(sql.SQL(text).format(table=subject, column=column))
            if verb in may_in_full(name, table, role):
                # Whatever came of it, it was not for want of a grant.
                assert "permission denied" not in str(done), (verb, done)
            else:
                assert isinstance(done, Refusal), (verb, done)
                assert "permission denied" in done.message, (verb, done)
            proof_cases.add()
