"""Documents are put, replaced, found, embedded anew and deleted whole, each in its own org."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import psycopg
import pytest

from tenantplane.core.errors import InvalidInput
from tenantplane.dataplane.sources.vectors.library import EmbeddingSpace, Mode, NewChunk
from tests.fixtures.vectors import SPACE, VectorDatabase, cloud, exact_top, fill

OTHER_SPACE = EmbeddingSpace("embed-2", 7)


async def counts(database: VectorDatabase, org: str) -> tuple[int, int]:
    """Documents and chunks, as counted on the library's row."""
    (row,) = await database.look(
        "SELECT documents, chunks FROM dataplane.library WHERE org_id = %(org)s", org=org
    )
    return row["documents"], row["chunks"]


async def test_a_document_is_kept_as_it_was_given(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    (vector,) = cloud(1, 1)
    chunk = NewChunk("the text", vector, 0, heading="Part 1 › Rules")
    put = await library.put("a.md", "text/markdown", "ab" * 32, 12, "user-1", SPACE, [chunk])
    assert (put.name, put.media_type, put.sha256) == ("a.md", "text/markdown", "ab" * 32)
    assert (put.bytes, put.chunks, put.user_id) == (12, 1, "user-1")
    assert (put.embedding_model, put.status) == ("embed-1", "ready")
    assert await library.get(put.document_id) == put
    (hit,) = await library.search("text", vector, SPACE, 5)
    assert (hit.document_id, hit.document_name) == (put.document_id, "a.md")
    assert (hit.text, hit.heading, hit.position) == ("the text", "Part 1 › Rules", 0)
    assert (hit.vector_rank, hit.text_rank) == (1, 1)


async def test_the_same_name_replaces_and_keeps_the_id(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    first = await fill(library, cloud(1, 450), word="old")
    second = await fill(library, cloud(2, 3), word="new")
    assert second.document_id == first.document_id
    assert second.created_at == first.created_at < second.updated_at
    assert await library.documents(None, 10) == [second]
    assert await counts(vector_database, new_org) == (1, 3)
    assert await vector_database.chunks_by_shelf(new_org) == {0: 3}
    assert await library.search("old7", None, SPACE, 10, "text") == []
    assert len(await library.search("new1", None, SPACE, 1, "text")) == 1


async def test_a_put_that_fails_halfway_leaves_what_was_there(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    before = await fill(library, cloud(1, 3))
    chunks = [NewChunk("x", v, n) for n, v in enumerate(cloud(2, 450))]
    chunks[-1] = NewChunk("x", chunks[-1].embedding, 2**31)  # in the third statement
    with pytest.raises(psycopg.DataError):
        await library.put("a.txt", "text/plain", "0" * 64, 1, "u", SPACE, chunks)
    assert await library.documents(None, 10) == [before]
    assert await counts(vector_database, new_org) == (1, 3)
    assert len(await library.search("", cloud(1, 1)[0], SPACE, 10, "vector")) == 3


async def test_documents_are_listed_in_pages(vector_database: VectorDatabase, new_org: str) -> None:
    library = vector_database.library(new_org)
    put = [await fill(library, cloud(n, 1), f"{n}.txt") for n in range(5)]
    first = await library.documents(None, 3)
    rest = await library.documents(first[-1].document_id, 3)
    assert first + rest == put
    assert await library.documents(put[-1].document_id, 3) == []


async def test_writers_of_one_name_at_once_leave_one_whole_document(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    sizes = (210, 5, 90, 1)
    await asyncio.gather(*(fill(library, cloud(n, size)) for n, size in enumerate(sizes)))
    (document,) = await library.documents(None, 10)
    assert document.chunks in sizes
    assert await counts(vector_database, new_org) == (1, document.chunks)
    assert await vector_database.chunks_by_shelf(new_org) == {0: document.chunks}


async def test_nearest_first(vector_database: VectorDatabase, new_org: str) -> None:
    library = vector_database.library(new_org)
    vectors = cloud(3, 300)
    await fill(library, vectors)
    for query in cloud(4, 10):
        hits = await library.search("", query, SPACE, 10, "vector")
        assert [hit.position for hit in hits] == exact_top(query, vectors, 10)
        assert [hit.vector_rank for hit in hits] == list(range(1, 11))


@pytest.mark.parametrize("mode", ["vector", "hybrid"])
async def test_an_empty_vector_is_refused_and_none_searches_words(
    vector_database: VectorDatabase, new_org: str, mode: Mode
) -> None:
    library = vector_database.library(new_org)
    await fill(library, cloud(1, 3))
    with pytest.raises(InvalidInput):
        await library.search("word1", [], SPACE, 3, mode)
    if mode == "vector":
        with pytest.raises(InvalidInput):
            await library.search("word1", None, SPACE, 3, mode)
    else:
        (hit, *_) = await library.search("word1", None, SPACE, 3, mode)
        assert (hit.position, hit.vector_rank, hit.text_rank) == (1, None, 1)


async def test_words_find_what_vectors_do_not_and_the_reverse(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    vectors = cloud(5, 300)
    await fill(library, vectors)
    query = vectors[7]
    far = exact_top(query, vectors, 300)[-1]
    hits = await library.search(f"where is word{far}", query, SPACE, 10)
    by_position = {hit.position: hit for hit in hits}
    assert len(hits) == 10
    assert by_position[far].text_rank == 1
    assert by_position[far].vector_rank is None
    assert by_position[7].vector_rank == 1


async def test_vectors_of_two_spaces_never_meet(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    same_dimensions = EmbeddingSpace("embed-3", SPACE.dimensions)
    vectors = cloud(1, 3)
    mine = await fill(library, vectors, "mine.txt")
    await fill(library, vectors, "theirs.txt", space=same_dimensions)
    await fill(library, cloud(2, 3, dimensions=7), "short.txt", space=OTHER_SPACE)
    hits = await library.search("", vectors[0], SPACE, 10, "vector")
    assert {hit.document_id for hit in hits} == {mine.document_id}
    assert len(hits) == 3
    assert await library.search("", vectors[0], EmbeddingSpace("never", 24), 10, "vector") == []
    # Words have no space: what is not yet embedded anew is found by them.
    texts = await library.search("some", None, SPACE, 10, "text")
    assert {hit.document_name for hit in texts} == {"mine.txt", "theirs.txt", "short.txt"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("quick fox", {0, 1}),
        ('"quick brown"', {0}),
        ('"brown quick"', set()),
        ("fox -brown", {1}),
        # In whole sentences all words never stand in one chunk: those with any of them follow.
        ("where does a hedgehog sleep in winter", {2}),
        ("QUICK", {0}),
        ("the", {0, 1, 2}),
        ("", set()),
        ("nothing-like-this", set()),
    ],
)
async def test_words_are_those_of_web_search(
    vector_database: VectorDatabase, new_org: str, query: str, expected: set[int]
) -> None:
    library = vector_database.library(new_org)
    texts = ("the quick brown fox", "the red fox", "the hedgehog is asleep")
    chunks = [NewChunk(text, (1.0, 1.0), n) for n, text in enumerate(texts)]
    space = EmbeddingSpace("embed-1", 2)
    await library.put("a.txt", "text/plain", "0" * 64, 1, "u", space, chunks)
    hits = await library.search(query, None, space, 10, "text")
    assert {hit.position for hit in hits} == expected


async def test_words_that_stand_everywhere_find_nothing_where_others_do(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    vectors = cloud(1, 120)
    await fill(library, vectors)  # "some word{n} here"
    hits = await library.search("some people are here for word7", None, SPACE, 50, "text")
    assert [hit.position for hit in hits] == [7]
    assert len(await library.search("some here", None, SPACE, 50, "text")) == 50
    assert len(await library.search("is some here", None, SPACE, 50, "text")) == 0


@pytest.mark.parametrize(
    "query",
    [
        "&",
        "a & | !",
        "((",
        ":*",
        "'",
        '"',
        "-",
        "<->",
        "%s",
        "\\",
        "see http://a.example/x\\y?q='z' some",
        "\\\\server\\share\\it's here",
        "a:b:*",
        "\x00",
        "\ud800",
        "x" * 9000,
    ],
    ids=ascii,
)
async def test_no_text_of_a_user_is_an_error(
    vector_database: VectorDatabase, new_org: str, query: str
) -> None:
    library = vector_database.library(new_org)
    await fill(library, cloud(1, 3))
    assert len(await library.search(query[:9000], cloud(1, 1)[0], SPACE, 3)) == 3


async def test_a_changed_model_makes_documents_stale_until_they_are_embedded_anew(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    put = await fill(library, cloud(1, 250))
    assert await library.stale(SPACE, 10) == []
    (stale,) = await library.stale(OTHER_SPACE, 10)
    assert stale.document.document_id == put.document_id
    assert stale.texts == tuple(f"some word{n} here" for n in range(250))
    anew = cloud(2, 250, dimensions=7)
    assert await library.re_embed(put.document_id, OTHER_SPACE, anew, of_version=stale.version)
    assert await library.stale(OTHER_SPACE, 10) == []
    assert await library.search("", cloud(1, 1)[0], SPACE, 10, "vector") == []
    hits = await library.search("", anew[5], OTHER_SPACE, 10, "vector")
    assert [hit.position for hit in hits] == exact_top(anew[5], anew, 10)
    (row,) = await library.documents(None, 10)
    assert (row.embedding_model, row.status) == ("embed-2", "ready")
    # A second one is stale from then on, by its own row.
    await fill(library, cloud(3, 1), "b.txt")
    assert {d.name: d.status for d in await library.documents(None, 10)} == {
        "a.txt": "stale",
        "b.txt": "ready",
    }


async def test_a_document_that_changed_meanwhile_is_not_embedded_anew(
    vector_database: VectorDatabase, new_org: str
) -> None:
    library = vector_database.library(new_org)
    await fill(library, cloud(1, 3))
    (stale,) = await library.stale(OTHER_SPACE, 10)
    document_id, anew = stale.document.document_id, cloud(2, 3, dimensions=7)
    await fill(library, cloud(3, 3), word="later")
    assert not await library.re_embed(document_id, OTHER_SPACE, anew, of_version=stale.version)
    assert not await library.re_embed(uuid4(), OTHER_SPACE, anew, of_version=1)
    (stale,) = await library.stale(OTHER_SPACE, 10)
    with pytest.raises(InvalidInput):
        await library.re_embed(document_id, OTHER_SPACE, anew[:2], of_version=stale.version)
    assert len(await library.search("later1", cloud(3, 1)[0], SPACE, 3)) == 3
    assert await library.stale(OTHER_SPACE, 10) == [stale]
    await library.delete(document_id)
    assert not await library.re_embed(document_id, OTHER_SPACE, anew, of_version=stale.version)


@pytest.mark.req("R4")
@pytest.mark.fault("F24")
async def test_another_orgs_document_is_not_there(
    vector_database: VectorDatabase, new_org: str
) -> None:
    mine, theirs = vector_database.library(new_org), vector_database.library(f"{new_org}-b")
    vectors = cloud(1, 20)
    kept = await fill(theirs, vectors, word="secret")
    assert await mine.get(kept.document_id) is None
    assert not await mine.delete(kept.document_id)
    assert not await mine.re_embed(kept.document_id, SPACE, vectors, of_version=1)
    assert await mine.documents(None, 100) == []
    assert await mine.stale(OTHER_SPACE, 100) == []
    for mode in ("hybrid", "vector", "text"):
        assert await mine.search("secret1", vectors[1], SPACE, 10, mode) == []
    assert await mine.delete_all() == 0
    assert await theirs.documents(None, 100) == [kept]
    assert len(await theirs.search("secret1", vectors[1], SPACE, 20)) == 20


# Every column of every table that can hold text, so that nothing of a document is left in any.
_COLUMNS = """
SELECT format('SELECT %L AS place FROM %I.%I WHERE strpos(%I::text, $1) > 0 LIMIT 1',
              c.table_name || '.' || c.column_name, c.table_schema, c.table_name, c.column_name)
       AS query
  FROM information_schema.columns c
  JOIN information_schema.tables t USING (table_schema, table_name)
 WHERE c.table_schema !~ '^(pg_|information_schema$)' AND t.table_type = 'BASE TABLE'
"""


async def places_of(database: VectorDatabase, canary: str) -> set[str]:
    found = set()
    for row in await database.look(_COLUMNS):
        query = row["query"].replace("$1", "%(canary)s")
        found |= {hit["place"] for hit in await database.look(query, canary=canary)}
    return found


@pytest.mark.req("R6")
@pytest.mark.parametrize("shelved", [False, True])
@pytest.mark.parametrize("all_at_once", [False, True])
async def test_nothing_is_left_of_a_deleted_document(
    vector_database: VectorDatabase, new_org: str, shelved: bool, all_at_once: bool
) -> None:
    library = vector_database.library(new_org)
    canary = f"canary{new_org[-12:]}"
    put = await fill(library, cloud(1, 30), f"{canary}.txt", word=canary)
    if shelved:
        await vector_database.indexer(10).index()
        assert await vector_database.shelf_of(new_org)
    assert {"document.name", "chunk.body", "chunk.words"} <= await places_of(
        vector_database, canary
    )
    if all_at_once:
        assert await library.delete_all() == 1
    else:
        assert await library.delete(put.document_id)
        assert not await library.delete(put.document_id)
        assert await counts(vector_database, new_org) == (0, 0)
    assert await places_of(vector_database, canary) == set()
    assert await vector_database.chunks_by_shelf(new_org) == {}
    assert await library.search(canary, cloud(1, 1)[0], SPACE, 10) == []
    await vector_database.indexer(10).index()
    assert await vector_database.shelf_of(new_org) is None
