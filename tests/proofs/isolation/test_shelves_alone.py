"""The filters of the functions that move and search chunks, alone: they run as the owner, whom no
tenant policy binds. Other orgs have chunks of the same ids, of other spaces, and even, as only an
owner could put them there, on the org's own shelf."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, LiteralString

import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import DictRow, dict_row

from tenantplane.core.db.pool import Database
from tenantplane.core.db.provision import Provisioned
from tenantplane.dataplane.sources.vectors.indexer import INDEX
from tenantplane.dataplane.sources.vectors.library import EmbeddingSpace, Hit, Library
from tenantplane.dataplane.sources.vectors.statements import statement
from tests.fixtures.postgres import ProvisionDatabase
from tests.fixtures.proofs import ProofCases
from tests.fixtures.vectors import MIGRATIONS, SPACE, VectorDatabase, cloud, fill

pytestmark = pytest.mark.proof

OTHER_SPACE: Final = EmbeddingSpace("embed-2", SPACE.dimensions)
_PATIENCE_SECONDS: Final = 3.0
_TWIN: Final[LiteralString] = """
INSERT INTO dataplane.chunk
SELECT (jsonb_populate_record(NULL::dataplane.chunk,
                              to_jsonb(c) || jsonb_build_object('org_id', %(twin)s::text))).*
  FROM dataplane.chunk c WHERE c.org_id = %(org)s
"""
_STRAY: Final[LiteralString] = """
UPDATE dataplane.chunk SET shelf = %(shelf)s WHERE org_id = %(org)s AND "position" < %(most)s
"""


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def shelves_provisioned(provision_database: ProvisionDatabase) -> Provisioned:
    """For these tests alone: in which order chunks stand in it is theirs to say."""
    return await provision_database("data", MIGRATIONS)


@pytest_asyncio.fixture(loop_scope="session")
async def shelves_database(shelves_provisioned: Provisioned) -> AsyncIterator[VectorDatabase]:
    """With sessions of the test's own."""
    provisioned = shelves_provisioned
    async with AsyncExitStack() as opened:
        database = Database(provisioned.settings, name="data")
        opened.push_async_callback(database.close)
        await database.open()
        owner = await psycopg.AsyncConnection[DictRow].connect(
            provisioned.owner_dsn, autocommit=True, row_factory=dict_row
        )
        opened.push_async_callback(owner.close)
        yield VectorDatabase(database, owner)


@pytest_asyncio.fixture(loop_scope="session")
async def empty(shelves_database: VectorDatabase) -> VectorDatabase:
    await shelves_database.owner.execute(
        "TRUNCATE dataplane.chunk, dataplane.document, dataplane.library, dataplane.shelf"
    )
    return shelves_database


async def _asked(database: Database, name: LiteralString, org_id: str, batch: int = 0) -> int:
    """As the indexer asks."""
    async with database.system_tx(INDEX) as cursor:
        await cursor.execute(statement(name), {"org_id": org_id, "batch": batch})
        row = await cursor.fetchone()
    assert row is not None
    return int(next(iter(row.values())))


async def _in_time(work: Awaitable[object]) -> object:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await work
    except TimeoutError:
        pytest.fail("it waited for a neighbour")


@pytest.mark.req("R4", "R6")
@pytest.mark.fault("F23", "F28")
async def test_chunks_of_one_org_move_and_come_back_alone(
    empty: VectorDatabase, proof_cases: ProofCases
) -> None:
    database = empty.database
    other, first, org, twin = (f"{n}-{secrets.token_hex(4)}" for n in ("o", "f", "m", "t"))
    vectors = cloud(1, 30)
    await fill(empty.library(other), vectors, space=OTHER_SPACE)
    await fill(empty.library(first), vectors)
    await fill(empty.library(org), vectors)
    await empty.owner.execute(_TWIN, {"org": org, "twin": twin})

    theirs = await _asked(database, "open_shelf", first)
    own = await _asked(database, "open_shelf", org)
    assert own != theirs
    assert await _asked(database, "open_shelf", org) == own
    await empty.owner.execute(_STRAY, {"org": first, "shelf": own, "most": 5})
    # Each move is the whole batch, of this org's chunks alone.
    for _ in range(3):
        assert await _asked(database, "shelve_chunks", org, 10) == 10
    assert await _asked(database, "shelve_chunks", org, 10) == 0
    assert await empty.chunks_by_shelf(org) == {own: 30}
    assert await empty.chunks_by_shelf(other) == {0: 30}
    assert await empty.chunks_by_shelf(first) == {0: 25, own: 5}
    assert await empty.chunks_by_shelf(twin) == {0: 30}

    await empty.owner.execute(_STRAY, {"org": twin, "shelf": own, "most": 5})
    for _ in range(3):
        assert await _asked(database, "unshelve_chunks", org, 10) == 10
    assert await _asked(database, "unshelve_chunks", org, 10) == 0
    assert await empty.chunks_by_shelf(org) == {0: 30}
    assert await empty.chunks_by_shelf(first) == {0: 25, own: 5}
    assert await empty.chunks_by_shelf(twin) == {0: 25, own: 5}
    assert await empty.shelf_of(org) is None
    assert await empty.shelf_of(first) == theirs
    proof_cases.add(19)


@pytest.mark.req("R4", "R6")
@pytest.mark.parametrize("move", ["shelve_chunks", "unshelve_chunks"])
async def test_a_move_holds_up_writers_of_its_own_org_alone(
    empty: VectorDatabase, move: LiteralString, proof_cases: ProofCases
) -> None:
    database = empty.database
    org, neighbour = (f"{n}-{secrets.token_hex(4)}" for n in ("mine", "near"))
    for each in (org, neighbour):
        await fill(empty.library(each), cloud(1, 20))
        await _asked(database, "open_shelf", each)
        await _asked(database, "shelve_chunks", each, 10)
    locked: LiteralString = "SELECT FROM dataplane.library WHERE org_id = %(org)s FOR UPDATE NOWAIT"
    async with database.system_tx(INDEX) as cursor:
        await cursor.execute(statement(move), {"org_id": org, "batch": 5})
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await empty.owner.execute(locked, {"org": org})
        await _in_time(fill(empty.library(neighbour), cloud(2, 3), "b.txt"))
    proof_cases.add(2)


@asynccontextmanager
async def _open_policy(database: VectorDatabase) -> AsyncIterator[None]:
    """Of the table that says whose shelves are whose."""
    policy: LiteralString = "ALTER POLICY tenant ON dataplane.shelf USING "
    await database.owner.execute(policy + "(true)")
    try:
        yield
    finally:
        await database.owner.execute(policy + "(org_id = (SELECT tp.current_org()))")


@pytest.mark.req("R4", "R6")
@pytest.mark.fault("F28")
async def test_work_on_a_neighbours_shelf_keeps_nobody_waiting(
    empty: VectorDatabase, proof_cases: ProofCases
) -> None:
    """A search or a change opens the shared shelf and one's own: no neighbour's, such as one that
    is being emptied or indexed. By the wrapper's filter alone: the policy of the shelves is open."""
    database = empty.database
    org, neighbour = (f"{n}-{secrets.token_hex(4)}" for n in ("mine", "near"))
    for each in (neighbour, org):
        await fill(empty.library(each), cloud(1, 20))
        await _asked(database, "open_shelf", each)
        await _asked(database, "shelve_chunks", each, 20)
    library = empty.library(org)
    shelf = await empty.shelf_of(neighbour)
    (document,) = await library.documents(None, 1)
    work: list[Callable[[], Awaitable[object]]] = [
        lambda: library.search("word1", None, SPACE, 5, "text"),
        lambda: library.search("", cloud(1, 1)[0], SPACE, 5, "vector"),
        # As often as a session needs to prepare a statement and to plan it for any value.
        *(lambda: library.stale(OTHER_SPACE, 5) for _ in range(12)),
        *(lambda: fill(library, cloud(1, 3), "b.txt") for _ in range(12)),
        lambda: library.delete(document.document_id),
        library.delete_all,
    ]
    async with _open_policy(empty), empty.owner.transaction():
        part = psycopg.sql.Identifier("dataplane", f"chunk_{shelf:x}")
        lock = psycopg.sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE")
        await empty.owner.execute(lock.format(part))
        for task in work:
            await _in_time(task())
    proof_cases.add(len(work))


@pytest.mark.req("R4", "R6")
@pytest.mark.fault("F28")
async def test_words_are_found_and_weighed_among_ones_own_chunks(
    empty: VectorDatabase, proof_cases: ProofCases
) -> None:
    """Whether a word is common, and so left out, is decided by the org's own chunks too."""
    org, neighbour = (f"{n}-{secrets.token_hex(4)}" for n in ("mine", "near"))
    await fill(empty.library(neighbour), cloud(1, 200), word="heron")
    await fill(empty.library(org), cloud(2, 3), word="crane")
    library = empty.library(org)
    # "some" and "here" stand in all chunks of both; of the neighbour's there are enough to be common.
    assert len(await _text(library, "some")) == 3
    assert len(await _text(library, "some crane1 absent")) == 3
    assert len(await _text(library, "crane1 absent")) == 1
    for question in ("heron1", "heron1 absent", "heron1 or heron2"):
        assert await _text(library, question) == []
    proof_cases.add(6)


async def _text(library: Library, question: str) -> list[Hit]:
    return await library.search(question, None, SPACE, 10, "text")
