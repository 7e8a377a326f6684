"""Deletion is complete: nothing of a document is left in any table, whoever looks."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from tenantplane.core.db.embedded import EmbeddedPostgres
from tests.fixtures.document_plane import DocumentPlane, embedding_grant

TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^(pg_|information_schema)' ORDER BY 1, 2
"""


@asynccontextmanager
async def seeing_all(
    postgres: EmbeddedPostgres, plane: DocumentPlane
) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
    """A connection that no policy binds: it only looks for what is left."""
    async with plane.agents.database.unscoped_tx() as cursor:
        await cursor.execute("SELECT current_database() AS name")
        row = await cursor.fetchone()
    assert row is not None
    dsn = make_conninfo(postgres.admin_dsn(), dbname=row["name"])
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        yield connection


async def rows_with(connection: psycopg.AsyncConnection[TupleRow], *marks: str) -> dict[str, int]:
    """Rows by table that have one of the marks in any column: as text, or as bytes."""
    wanted = [*marks, *(mark.encode().hex() for mark in marks)]
    found = {}
    tables = await (await connection.execute(TABLES)).fetchall()
    assert len(tables) > 10
    for schema, table in tables:
        query = sql.SQL(
            "SELECT count(*) FROM ONLY {} t"
            " WHERE EXISTS (SELECT FROM unnest(%s::text[]) m"
            " WHERE position(m IN to_jsonb(t)::text) > 0)"
        ).format(sql.Identifier(schema, table))
        row = await (await connection.execute(query, (wanted,))).fetchone()
        if row and row[0]:
            found[f"{schema}.{table}"] = row[0]
    return found


@pytest.mark.req("R4")
async def test_nothing_of_a_deleted_document_is_left(
    document_plane: DocumentPlane, postgres: EmbeddedPostgres
) -> None:
    tenant = document_plane.tenant(embedding_grant())
    canary, other = f"canary{secrets.token_hex(8)}", f"other{secrets.token_hex(8)}"
    put = await tenant.put(
        f"{canary}.md", f"# The {canary}\n\n{'sings ' * 100}{canary}", "text/markdown"
    )
    assert put.status_code == 201, put.text
    document_id = put.json()["document_id"]
    assert put.json()["chunks"] > 2
    assert (await tenant.put("other.txt", other)).status_code == 201
    assert (await tenant.search(canary)).json()["hits"]
    async with seeing_all(postgres, document_plane) as connection:
        before = await rows_with(connection, canary, document_id)
        assert "dataplane.document" in before
        assert sum(before.values()) == 1 + put.json()["chunks"]
    assert (await tenant.http.delete(f"/tp/v1/documents/{document_id}")).status_code == 204
    async with seeing_all(postgres, document_plane) as connection:
        assert await rows_with(connection, canary, document_id) == {}
        assert await rows_with(connection, other)
    assert (await tenant.http.get(f"/tp/v1/documents/{document_id}")).status_code == 404
    assert (await tenant.http.delete(f"/tp/v1/documents/{document_id}")).status_code == 404
    assert (await tenant.search(canary, mode="text")).json()["hits"] == []
    # A text that is replaced is gone as well.
    assert (await tenant.put("other.txt", "replaced")).status_code == 201
    async with seeing_all(postgres, document_plane) as connection:
        assert await rows_with(connection, other) == {}


async def test_an_org_that_is_purged_takes_its_documents_and_no_others(
    document_plane: DocumentPlane, postgres: EmbeddedPostgres
) -> None:
    gone, stays = document_plane.tenant(), document_plane.tenant()
    canary = f"canary{secrets.token_hex(8)}"
    for tenant in (gone, stays):
        for name in ("a.txt", "b.txt"):
            assert (await tenant.put(name, f"{canary} of {name}")).status_code == 201
    assert await document_plane.documents.delete_all(gone.org_id) == 2
    assert (await gone.http.get("/tp/v1/documents")).json()["items"] == []
    async with seeing_all(postgres, document_plane) as connection:
        assert sum((await rows_with(connection, canary)).values()) == 2
    assert len((await stays.search(canary)).json()["hits"]) == 2
