"""What the SQL lint must catch, and what it must leave alone."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tools.sql_lint import lint
from tools.sql_text import lint_statement, tenant_tables

TABLES = frozenset({"dataplane.note"})
HEAD = """
from typing import Final, LiteralString
import psycopg
from psycopg import AsyncConnection, AsyncCursor, sql
from tenantplane.dataplane.notes import statements
from tenantplane.dataplane.notes.statements import READ, statement
"""


def findings(tmp_path: Path, code: str, name: str = "thing.py") -> list[str]:
    folder = tmp_path / "dataplane/tenantplane/dataplane/notes"
    folder.mkdir(parents=True)
    (folder / "statements.py").write_text(
        'READ: LiteralString = "SELECT body FROM dataplane.note WHERE org_id = %(org_id)s"\n'
        "BUILT = make()\n"
    )
    migrations = tmp_path / "dataplane/tenantplane/dataplane/db/migrations"
    migrations.mkdir(parents=True)
    (migrations / "0001_notes.sql").write_text("-- why\nSELECT tp.protect('dataplane.note');\n")
    (folder / name).write_text(HEAD + dedent(code))
    return [f"{f.kind}: {f.what}" for f in lint(tmp_path) if f.path.endswith(name)]


@pytest.mark.parametrize(
    "code",
    [
        "connection = psycopg.connect('')",
        "connection = await AsyncConnection.connect('')",
        "connection = await AsyncConnection[dict].connect('')",
        "from psycopg import connect",
        "import psycopg_pool",
        "from psycopg_pool import AsyncConnectionPool",
        "import asyncpg",
        "from sqlalchemy import create_engine",
        "cursor = connection.cursor()",
        "cursor = AsyncCursor(connection)",
        "cursor = psycopg.ClientCursor(connection)",
        "connection = pool.connection()",
        "connection = database._app.getconn()",
        "await cursor.connection.commit()",
        "await connection.rollback()",
        "await connection.set_autocommit(True)",
        "pool = database._system",
    ],
)
def test_another_way_to_a_cursor_is_caught(tmp_path: Path, code: str) -> None:
    found = findings(tmp_path, f"async def work():\n    {code}\n")
    assert any(f.startswith("connection:") for f in found), found


@pytest.mark.parametrize(
    "code",
    [
        'await cursor.execute(f"SELECT {org}")',
        'await cursor.execute("SELECT " + org)',
        'await cursor.execute("SELECT %s" % org)',
        'await cursor.execute("SELECT {}".format(org))',
        'await cursor.execute(" ".join(parts))',
        "await cursor.execute(org)",
        "await cursor.execute(org.encode())",
        "await cursor.execute(query=org)",
        "await cursor.executemany(org, rows)",
        "async for row in cursor.stream(org): pass",
        "async with cursor.copy(org) as copy: pass",
        "await connection.execute(org)",
        "await self.tx().execute(org)",
        "await cursor.execute(statement(org))",
        "await cursor.execute(statements.BUILT)",
        "await cursor.execute(sql.SQL(org))",
        'await cursor.execute(sql.SQL("SELECT {}").format(org))',
        'await cursor.execute(sql.SQL("SELECT {}").format("org"))',
        "await cursor.execute(cast(LiteralString, org))",
        'await cursor.execute("SELECT 1")  # type: ignore[arg-type]',
        "query: LiteralString = org\n    await cursor.execute(query)",
        'query = "SELECT 1"\n    query += org\n    await cursor.execute(query)',
        'await cursor.execute("SELECT 1" if org else org)',
        "await run(cursor, org)",
        "await run(cursor, query=org)",
    ],
)
def test_sql_built_from_strings_is_caught(tmp_path: Path, code: str) -> None:
    taker = "async def run(cursor, query: LiteralString):\n    await cursor.execute(query)\n"
    found = findings(tmp_path, f"async def work(cursor, org):\n    {code}\n{taker}")
    assert any(f.startswith("built:") for f in found), found


def test_a_function_that_claims_to_return_a_literal_is_caught(tmp_path: Path) -> None:
    code = "def query(org) -> LiteralString:\n    return 'SELECT ' + org\n"
    assert findings(tmp_path, code) == ["built: returns as LiteralString what is not literal"]


GOOD = """
_HEAD: Final[LiteralString] = "SELECT body FROM dataplane.note"
_ALL: Final[LiteralString] = _HEAD + " WHERE org_id = %(org_id)s"
_BY_KIND: Final = {"a": "SELECT 1", "b": _ALL}

class Notes:
    async def read(self, kind):
        async with self._database.tenant_tx("acme") as cursor:
            await cursor.execute("SELECT 1")
            await cursor.execute("SELECT 1 " "AS x")
            await cursor.execute(_ALL, {"org_id": cursor.org_id})
            await cursor.execute(READ, {"org_id": cursor.org_id})
            await cursor.execute(statements.READ, {"org_id": cursor.org_id})
            await cursor.execute(statement("read"))
            await cursor.execute(_BY_KIND[kind])
            name = "usage" if kind == "a" else "audit"
            await cursor.execute(statement(name))
            await cursor.execute(sql.SQL("SELECT {}").format(sql.Identifier(kind)))
            await self._one(cursor, "SELECT 1")
        return self.executor.execute(kind), self.http.stream(kind), self.settings.copy(kind)

    async def _one(self, cursor: AsyncCursor, query: LiteralString):
        await cursor.execute(query)
"""


def test_what_the_code_base_does_is_left_alone(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    "text",
    [
        "SET statement_timeout = 0",
        "SELECT 1; SET search_path = x",
        "SET LOCAL ROLE evil",
        "SET LOCAL app.current_tenant = 'acme'",
        "SET LOCAL search_path = x",
        "RESET ALL",
        "LISTEN gossip",
        "COMMIT; BEGIN",
        "PREPARE p AS SELECT 1",
        "SELECT set_config('app.current_tenant', %s, true)",
        "SELECT set_config('hnsw.ef_search', %s, false)",
        "SELECT set_config(%s, %s, true)",
        "CREATE TEMP TABLE x (y int)",
        "create temporary table x (y int)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    ],
)
def test_what_outlives_the_transaction_is_caught_outside_core_db(text: str) -> None:
    assert {kind for kind, _, _ in lint_statement(text, TABLES, in_db=False)} == {"session"}
    assert list(lint_statement(text, TABLES, in_db=True)) == []


@pytest.mark.parametrize(
    "text",
    [
        "SET LOCAL plan_cache_mode = force_custom_plan",
        "SET TRANSACTION READ ONLY",
        "SELECT set_config('hnsw.ef_search', %s, true)",
        "UPDATE dataplane.other SET body = %s",
        "SELECT 1 -- not SET x = 1; LISTEN",
        "DELETE FROM dataplane.note WHERE org_id = %(org_id)s",
        "SELECT 1 FROM dataplane.note WHERE org_id = ANY(%(roots)s)",
        "INSERT INTO dataplane.note (org_id) SELECT unnest(%(org_ids)s::text[])",
        "-- all orgs: the sweeper ends what a crash left\nSELECT 1 FROM dataplane.note",
        "SELECT 1 FROM dataplane.note_of_nobody",
        "SELECT 'dataplane.note'",
    ],
)
def test_what_ends_with_the_transaction_and_names_its_tenant_passes(text: str) -> None:
    assert list(lint_statement(text, TABLES, in_db=False)) == []


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 FROM dataplane.note",
        "SELECT 1 FROM dataplane.note WHERE org_id = 'acme'",
        "SELECT 1 FROM dataplane.note WHERE root_org_id = %(root_org_id)s",
        "DELETE FROM dataplane.note -- org_id = %(org_id)s",
        "-- all orgs:\nSELECT 1 FROM dataplane.note",
    ],
)
def test_a_statement_that_forgets_its_tenant_is_caught(text: str) -> None:
    (found,) = lint_statement(text, TABLES, in_db=False)
    assert found[0] == "scope"
    assert "dataplane.note without org_id" in found[1]


def test_sql_files_are_read_too(tmp_path: Path) -> None:
    findings(tmp_path, "")
    folder = tmp_path / "dataplane/tenantplane/dataplane/notes/sql"
    folder.mkdir()
    (folder / "read.sql").write_text("SELECT body FROM dataplane.note\n")
    (found,) = lint(tmp_path)
    assert str(found).startswith("dataplane/tenantplane/dataplane/notes/sql/read.sql:1: scope:")


def test_tenant_tables_are_those_that_migrations_protect() -> None:
    assert tenant_tables(["SELECT tp.protect('a.b', ''),\n tp.protect( 'a.c'::regclass)"]) == {
        "a.b",
        "a.c",
    }
