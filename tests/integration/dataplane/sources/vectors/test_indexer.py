"""A tenant past the size gets indexes of its own, while it and all others go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import LiteralString

import psycopg
import pytest

from tenantplane.core.db.pool import TenantCursor
from tenantplane.dataplane.sources.vectors import search
from tenantplane.dataplane.sources.vectors.indexer import Indexed, Indexer
from tenantplane.dataplane.sources.vectors.library import EmbeddingSpace, Library
from tests.fixtures.vectors import (
    SPACE,
    Vector,
    VectorDatabase,
    cloud,
    exact_top,
    fill,
    recalls,
)

OTHER_SPACE = EmbeddingSpace("embed-2", 7)
OTHER_SPACE_24 = EmbeddingSpace("embed-other", SPACE.dimensions)


class Dying(Indexer):
    """Ends at its n-th call to the database, as a killed process would."""

    calls_left = 0

    async def _ask(self, query: LiteralString, column: str, values: dict[str, object]) -> int:
        if self.calls_left == 0:
            raise asyncio.CancelledError
        self.calls_left -= 1
        return await super()._ask(query, column, values)


async def finds_all(library: Library, vectors: Sequence[Vector], queries: Sequence[Vector]) -> None:
    assert min(await recalls(library, queries, vectors)) >= 0.9


async def test_past_the_size_chunks_move_and_searches_find_the_same(
    vector_database: VectorDatabase, new_org: str
) -> None:
    large, small = vector_database.library(new_org), vector_database.library(f"{new_org}-b")
    vectors, few = cloud(1, 700), cloud(2, 60)
    await fill(large, vectors)
    await fill(small, few)
    done = await vector_database.indexer(500, batch=100).index()
    assert done.opened == 1
    assert done.filled == 700
    shelf = await vector_database.shelf_of(new_org)
    assert shelf is not None
    assert await vector_database.chunks_by_shelf(new_org) == {shelf: 700}
    assert await vector_database.chunks_by_shelf(f"{new_org}-b") == {0: 60}
    await finds_all(large, vectors, cloud(3, 20))
    await finds_all(small, few, cloud(3, 20))
    (hit, *_) = await large.search("word77", None, SPACE, 5, "text")
    assert hit.position == 77
    # What comes later arrives on the shared shelf, is found there, and moves too.
    later = cloud(4, 5)
    await fill(large, later, "later.txt", word="later")
    assert (await vector_database.chunks_by_shelf(new_org))[0] == 5
    (hit, *_) = await large.search("", later[2], SPACE, 5, "vector")
    assert (hit.document_name, hit.position) == ("later.txt", 2)
    assert await vector_database.indexer(500).index() == Indexed(filled=5)
    assert await vector_database.indexer(500).index() == Indexed()


async def test_searches_and_writes_while_chunks_move(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    vectors = cloud(1, 600)
    await fill(library, vectors)
    queries = cloud(3, 8)
    truth = [exact_top(query, vectors, 10) for query in queries]
    moved = asyncio.Event()

    async def move() -> None:
        await vector_database.indexer(500, batch=20).index()
        moved.set()

    async def look() -> int:
        rounds = 0
        while not moved.is_set() or rounds < 8:
            place = rounds % 8
            hits = await library.search("", queries[place], SPACE, 10, "vector")
            found = [hit.position for hit in hits if hit.document_name == "a.txt"]
            assert len(hits) == len(set(found)) == 10, "a chunk was out of sight, or seen twice"
            assert len(set(found) & set(truth[place])) >= 9
            rounds += 1
        return rounds

    async def write() -> None:
        # Far from the queries, so that the truth above stays.
        for n in range(6):
            far = [tuple(-100 * sum(q[i] for q in queries) for i in range(24))] * 30
            put = await fill(library, far, f"far-{n}.txt")
            if n % 2:
                assert await library.delete(put.document_id)

    await asyncio.gather(move(), look(), look(), write())
    await vector_database.indexer(500).index()
    assert sum((await vector_database.chunks_by_shelf(new_org)).values()) == 690


async def test_a_search_whose_chunks_moved_between_two_statements_is_made_again(
    vector_database: VectorDatabase, new_org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = vector_database.library(new_org)
    vectors, query = cloud(1, 200), cloud(2, 1)[0]
    await fill(library, vectors)
    looked: list[list[int]] = []
    shelves_of = search.shelves_of

    async def then_moved(cursor: TenantCursor) -> list[int]:
        shelves = await shelves_of(cursor)
        if not looked:
            await vector_database.indexer(150).index()
        looked.append(shelves)
        return shelves

    monkeypatch.setattr(search, "shelves_of", then_moved)
    hits = await library.search("", query, SPACE, 10, "vector")
    shelf = await vector_database.shelf_of(new_org)
    assert looked == [[0], [0, shelf], [0, shelf]]
    assert len({hit.position for hit in hits} & set(exact_top(query, vectors, 10))) >= 9


@pytest.mark.parametrize("calls", range(6))
async def test_dies_between_two_steps(
    vector_database: VectorDatabase, new_org: str, calls: int
) -> None:
    """0: before its shelf; 1: with an empty one; then with some chunks there, and none to clear."""
    library = vector_database.library(new_org)
    vectors = cloud(1, 90)
    await fill(library, vectors)
    await vector_database.indexer(80).index()  # others' leftovers first
    await library.delete_all()
    await vector_database.indexer(80).index()
    await fill(library, vectors)
    dying = Dying(vector_database.database, vector_database.indexer(80, batch=30)._settings)
    dying.calls_left = calls
    with pytest.raises(asyncio.CancelledError):
        await dying.index()
    await finds_all(library, vectors, cloud(2, 5))
    await vector_database.indexer(80, batch=30).index()
    shelf = await vector_database.shelf_of(new_org)
    assert await vector_database.chunks_by_shelf(new_org) == {shelf: 90}
    await finds_all(library, vectors, cloud(2, 5))
    await library.delete_all()


async def test_a_tenant_that_shrinks_goes_back_and_its_shelf_is_emptied_for_another(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library, indexer = vector_database.library(new_org), vector_database.indexer(300, batch=50)
    kept, dropped = cloud(1, 120), cloud(2, 400)
    await fill(library, kept, "kept.txt")
    gone = await fill(library, dropped, "gone.txt")
    await indexer.index()
    shelf = await vector_database.shelf_of(new_org)
    assert shelf is not None
    await library.delete(gone.document_id)
    done = await indexer.index()
    assert (done.returned, done.cleared) == (120, 1)
    assert await vector_database.shelf_of(new_org) is None
    assert await vector_database.chunks_by_shelf(new_org) == {0: 120}
    await finds_all(library, kept, cloud(3, 5))
    name = f"dataplane.chunk_{shelf:x}"
    size = "SELECT pg_relation_size(%(name)s::regclass) AS bytes"
    assert await vector_database.look(size, name=name) == [{"bytes": 0}]
    # The next tenant past the size gets a shelf that is free, with nothing of the first one's in it.
    before = await _partitions(vector_database)
    other = vector_database.library(f"{new_org}-b")
    await fill(other, dropped, space=OTHER_SPACE_24)
    await indexer.index()
    assert await vector_database.shelf_of(f"{new_org}-b")
    assert await _partitions(vector_database) == before
    hits = await other.search("", dropped[0], OTHER_SPACE_24, 10, "vector")
    assert [hit.position for hit in hits][:1] == [0]
    await other.delete_all()


async def _partitions(database: VectorDatabase) -> int:
    (row,) = await database.look(
        "SELECT count(*) AS partitions FROM pg_inherits"
        " WHERE inhparent = 'dataplane.chunk'::regclass"
    )
    return int(row["partitions"])


async def test_a_changed_model_gets_an_index_and_the_old_one_goes(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library, indexer = vector_database.library(new_org), vector_database.indexer(100)
    await fill(library, cloud(1, 200))
    await indexer.index()
    shelf = await vector_database.shelf_of(new_org)
    assert await _spaces_indexed(vector_database, shelf) == {"24"}
    (stale,) = await library.stale(OTHER_SPACE, 10)
    anew = cloud(2, 200, dimensions=7)
    assert await library.re_embed(
        stale.document.document_id, OTHER_SPACE, anew, of_version=stale.version
    )
    await indexer.index()
    assert await vector_database.chunks_by_shelf(new_org) == {shelf: 200}
    hits = await library.search("", anew[5], OTHER_SPACE, 10, "vector")
    assert len({hit.position for hit in hits} & set(exact_top(anew[5], anew, 10))) >= 9
    await indexer.index()
    assert await _spaces_indexed(vector_database, shelf) == {"7"}
    await library.delete_all()


async def _spaces_indexed(database: VectorDatabase, shelf: int | None) -> set[str]:
    rows = await database.look(
        "SELECT split_part(relname, '_', 3) AS dimensions FROM pg_class c"
        "  JOIN pg_am a ON a.oid = c.relam"
        " WHERE a.amname = 'hnsw' AND relname LIKE %(name)s",
        name=f"chunk\\_{shelf:x}\\_%",
    )
    return {row["dimensions"] for row in rows}


async def test_an_org_whose_writer_is_slow_waits_and_the_others_do_not(
    vector_database: VectorDatabase, new_org: str
) -> None:
    slow, quick = new_org, f"{new_org}-b"
    for org in (slow, quick):
        await fill(vector_database.library(org), cloud(1, 120))
    lock: LiteralString = "SELECT 1 FROM dataplane.library WHERE org_id = %(org_id)s FOR UPDATE"
    async with vector_database.database.tenant_tx(slow) as cursor:
        await cursor.execute(lock, {"org_id": slow})
        await vector_database.indexer(100).index()
        shelf = await vector_database.shelf_of(quick)
        assert await vector_database.chunks_by_shelf(quick) == {shelf: 120}
        assert await vector_database.chunks_by_shelf(slow) == {0: 120}
        # Its searches do not wait for anybody.
        await finds_all(vector_database.library(slow), cloud(1, 120), cloud(2, 3))
    await vector_database.indexer(100).index()
    assert await vector_database.chunks_by_shelf(slow) == {
        await vector_database.shelf_of(slow): 120
    }


async def test_opening_a_shelf_waits_for_no_tenants_transaction(
    vector_database: VectorDatabase, new_org: str
) -> None:
    """Others have chunks read, and others' written, uncommitted, while a partition is added."""
    reader, writer = f"{new_org}-r", f"{new_org}-w"
    for org in (new_org, reader, writer):
        await fill(vector_database.library(org), cloud(1, 60))
    read: LiteralString = "SELECT count(*) FROM dataplane.chunk WHERE org_id = %(org_id)s"
    change: LiteralString = (
        "UPDATE dataplane.chunk SET heading = 'x' WHERE org_id = %(org_id)s AND shelf = 0"
    )
    tx = vector_database.database.tenant_tx
    async with tx(reader) as reading, tx(writer) as writing:
        await reading.execute(read, {"org_id": reader})
        await writing.execute(change, {"org_id": writer})
        await vector_database.look("SELECT dataplane.open_shelf(%(org)s)", org=new_org)
        assert await vector_database.shelf_of(new_org)
        await reading.execute(read, {"org_id": reader})
    for org in (new_org, reader, writer):
        await vector_database.library(org).delete_all()


async def test_two_indexers_at_once_move_each_chunk_once(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    vectors = cloud(1, 400)
    await fill(library, vectors)
    indexers = [vector_database.indexer(300, batch=20) for _ in range(3)]
    done = await asyncio.gather(*(one.index() for one in indexers))
    assert sum(one.filled for one in done) >= 400
    shelf = await vector_database.shelf_of(new_org)
    assert await vector_database.chunks_by_shelf(new_org) == {shelf: 400}
    await finds_all(library, vectors, cloud(2, 5))


async def test_full_k_where_the_index_is_full_of_dead_rows(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    kept, noise = cloud(1, 30), cloud(2, 900, cloud(3, 1))
    await fill(library, kept, "kept.txt")
    gone = await fill(library, noise, "gone.txt")
    await vector_database.indexer(500).index()
    await library.delete(gone.document_id)
    for query in random.Random(4).sample(noise, 5):
        hits = await library.search("", query, SPACE, 30, "vector")
        assert [hit.position for hit in hits] == exact_top(query, kept, 30)


async def test_the_tenants_own_indexes_are_used_under_row_level_security(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    vectors = cloud(1, 4000)
    await fill(library, vectors)
    await vector_database.indexer(3000, batch=1000).index()
    await vector_database.look("SELECT 1 FROM pg_stat_force_next_flush()")
    shelf = await vector_database.shelf_of(new_org)
    await vector_database.owner.execute("ANALYZE dataplane.chunk")
    used = (
        "SELECT a.amname AS kind, sum(s.idx_scan)::int AS scans FROM pg_stat_user_indexes s"
        "  JOIN pg_class c ON c.oid = s.indexrelid JOIN pg_am a ON a.oid = c.relam"
        " WHERE s.relname = %(part)s AND a.amname IN ('hnsw', 'gin') GROUP BY 1"
    )
    for n in range(3):
        await library.search(f"word{n}", vectors[n], SPACE, 10)
    async with vector_database.database.tenant_tx(new_org) as cursor:
        await cursor.execute("SELECT pg_stat_force_next_flush()")
    rows = await vector_database.look(used, part=f"chunk_{shelf:x}")
    assert all(row["scans"] > 0 for row in rows), rows
    assert {row["kind"] for row in rows} == {"hnsw", "gin"}


def test_a_lock_not_available_is_a_dependency() -> None:
    """What the indexer relies on to give an org up for this look."""
    assert issubclass(psycopg.errors.LockNotAvailable, psycopg.OperationalError)
