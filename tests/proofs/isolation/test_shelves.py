"""Vectors: no neighbour reads, fills or spoils a tenant's; not on the shelf that all share, nor on
one of the tenant's own, which appears at run time and so stands in no list of tables."""

from __future__ import annotations

import secrets
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from tenantplane.core.db import doctor
from tests.fixtures.proofs import ProofCases
from tests.fixtures.vectors import SPACE, VectorDatabase, cloud, fill, recalls

pytestmark = pytest.mark.proof

ALL_SHARED = 1_000_000  # a size that nobody here reaches


async def shelved(database: VectorDatabase) -> tuple[str, str, int]:
    """Victim and intruder, each with chunks; the victim's stand on a shelf of its own."""
    mark = secrets.token_hex(4)
    victim, intruder = f"victim-{mark}", f"rival-{mark}"
    await fill(database.library(victim), cloud(1, 120), word="diamonds")
    await fill(database.library(intruder), cloud(2, 20), word="pebbles")
    await database.indexer(100).index()
    shelf = await database.shelf_of(victim)
    assert shelf is not None
    assert await database.chunks_by_shelf(victim) == {shelf: 120}
    assert await database.chunks_by_shelf(intruder) == {0: 20}
    return victim, intruder, shelf


@pytest.mark.req("R4", "R6")
async def test_a_shelf_is_closed_to_app_but_through_its_parent(
    vector_database: VectorDatabase, proof_cases: ProofCases
) -> None:
    victim, intruder, shelf = await shelved(vector_database)
    part = sql.Identifier("dataplane", f"chunk_{shelf:x}")
    statements = (
        "SELECT 1 FROM {part}",
        "UPDATE {part} SET heading = ''",
        "DELETE FROM {part}",
        "TRUNCATE {part}",
        "INSERT INTO {part} SELECT * FROM dataplane.chunk",
        "COPY {part} TO STDOUT",
        "DROP TABLE {part}",
        "ALTER TABLE {part} DISABLE ROW LEVEL SECURITY",
        "CREATE INDEX ON {part} (org_id)",
    )
    for org in (victim, intruder):
        for text in statements:
            async with vector_database.database.tenant_tx(org) as cursor:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await cursor.execute(sql.SQL(text).format(part=part))
    findings = await doctor.inspect(vector_database.database)
    assert [f for f in findings if f.severity == "refuse"] == []
    proof_cases.add(2 * len(statements))


@pytest.mark.req("R4", "R6")
@pytest.mark.fault("F23", "F24")
async def test_statements_that_name_no_org_see_and_change_ones_own(
    vector_database: VectorDatabase, proof_cases: ProofCases
) -> None:
    """The wrapper's own filter taken away, on both kinds of shelf: the policy holds."""
    victim, intruder, shelf = await shelved(vector_database)
    statements: tuple[tuple[LiteralString, int], ...] = (
        ("SELECT 1 FROM dataplane.chunk", 20),
        ("SELECT 1 FROM dataplane.chunk WHERE shelf > 0", 0),
        (
            "SELECT 1 FROM dataplane.chunk ORDER BY public.vector(embedding, 24, true)"
            " <=> (SELECT embedding FROM dataplane.chunk LIMIT 1) LIMIT 1000",
            20,
        ),
        ("SELECT 1 FROM dataplane.chunk WHERE words @@ 'some'", 20),
        ("SELECT 1 FROM dataplane.chunk WHERE body LIKE '%%diamonds%%'", 0),
        ("SELECT 1 FROM dataplane.document", 1),
        ("UPDATE dataplane.chunk SET heading = 'x', shelf = 0", 20),
        ("DELETE FROM dataplane.chunk WHERE shelf > 0", 0),
        ("DELETE FROM dataplane.chunk", 20),
        ("UPDATE dataplane.document SET name = name", 1),
        ("DELETE FROM dataplane.document", 1),
    )
    for text, count in statements:
        async with vector_database.database.tenant_tx(intruder) as cursor:
            await cursor.execute(text)
            assert cursor.rowcount == count, text
            await cursor.connection.rollback()
    assert await vector_database.chunks_by_shelf(victim) == {shelf: 120}
    proof_cases.add(len(statements))


@pytest.mark.req("R4", "R6")
@pytest.mark.fault("F28")
async def test_nobody_puts_rows_on_a_shelf_by_hand(
    vector_database: VectorDatabase, proof_cases: ProofCases
) -> None:
    """Rows of a rival inside the victim's index would push the victim's out of its answers."""
    victim, intruder, shelf = await shelved(vector_database)
    attempts: tuple[LiteralString, ...] = (
        "UPDATE dataplane.chunk SET shelf = %(shelf)s",
        "INSERT INTO dataplane.chunk (org_id, document_id, position, shelf, embedding_model,"
        " dimensions, body, words, embedding) SELECT org_id, document_id, position + 1000,"
        " %(shelf)s, embedding_model, dimensions, body, words, embedding FROM dataplane.chunk",
        "INSERT INTO dataplane.shelf (org_id, shelf) VALUES (%(org_id)s, %(shelf)s)",
        "UPDATE dataplane.shelf SET shelf = %(shelf)s",
        "DELETE FROM dataplane.shelf",
    )
    for org in (intruder, victim):
        for text in attempts:
            async with vector_database.database.tenant_tx(org) as cursor:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await cursor.execute(text, {"shelf": shelf, "org_id": org})
    (row,) = await vector_database.look(
        sql.SQL("SELECT count(DISTINCT org_id) AS orgs FROM {}").format(
            sql.Identifier("dataplane", f"chunk_{shelf:x}")
        )
    )
    assert row == {"orgs": 1}
    proof_cases.add(2 * len(attempts))


@pytest.mark.req("R4")
async def test_no_name_in_the_catalogue_says_whose_a_shelf_is(
    vector_database: VectorDatabase,
) -> None:
    victim, intruder, _ = await shelved(vector_database)
    async with vector_database.database.tenant_tx(intruder) as cursor:
        await cursor.execute(
            "SELECT relname || coalesce(pg_get_expr(relpartbound, oid), '') AS text FROM pg_class"
            " UNION ALL SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint"
            " UNION ALL SELECT polname || coalesce(pg_get_expr(polqual, polrelid), '')"
            "            FROM pg_policy"
        )
        rows = await cursor.fetchall()
    assert any("chunk_" in row["text"] for row in rows)
    assert not [row["text"] for row in rows if victim in row["text"]]


@pytest.mark.req("R4")
@pytest.mark.fault("F28")
@pytest.mark.parametrize("index_from", [ALL_SHARED, 400], ids=["shared-shelf", "own-index"])
async def test_a_neighbour_who_floods_around_the_victims_queries_costs_it_no_recall(
    vector_database: VectorDatabase, index_from: int, proof_cases: ProofCases
) -> None:
    mark = secrets.token_hex(4)
    victim = vector_database.library(f"victim-{mark}")
    neighbour = vector_database.library(f"flood-{mark}")
    vectors, queries = cloud(1, 600), cloud(2, 20)
    await fill(victim, vectors)
    await vector_database.indexer(index_from).index()
    quiet = await recalls(victim, queries, vectors)
    await fill(neighbour, cloud(3, 4000, queries))
    # While the flood stands on the shared shelf, and when it has been moved away.
    for _ in range(2):
        flooded = await recalls(victim, queries, vectors)
        assert sum(flooded) / len(flooded) >= 0.95
        assert sum(quiet) / len(quiet) - sum(flooded) / len(flooded) <= 0.01
        for query in queries[:5]:
            hits = await victim.search("word1", query, SPACE, 10)
            assert len(hits) == 10
        await vector_database.indexer(index_from).index()
    own = await vector_database.shelf_of(f"victim-{mark}")
    assert (own is None) == (index_from == ALL_SHARED)
    await neighbour.delete_all()
    proof_cases.add(2 * len(queries))
