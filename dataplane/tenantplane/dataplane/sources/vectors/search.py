"""One search in one transaction: nearest vectors, matching words, fused, and read.

While a tenant's chunks move from the shared shelf to its own, a search looks at both. Where the
tenant got its shelf between two statements of a search, chunks may have moved out of sight: the
shelves are read before and after, and a search that saw them change is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, LiteralString

from tenantplane.core.db.pool import TenantCursor
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.sources.vectors.fusion import ChunkKey, Fused, fuse
from tenantplane.dataplane.sources.vectors.records import EmbeddingSpace, Hit
from tenantplane.dataplane.sources.vectors.statements import statement

# Custom plans, since the tenant's shelf and the index of its space are chosen by constants. More
# candidates than hits, for recall; strict order and going on until there are enough. One core.
_LIKE_THIS: LiteralString = """
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL hnsw.ef_search = 200;
SET LOCAL hnsw.iterative_scan = strict_order
"""
_EXACTLY: LiteralString = "SET LOCAL enable_indexscan = off"
_AS_BEFORE: LiteralString = "SET LOCAL enable_indexscan = on"
# A tenant gets its shelf once, and loses it once: it does not happen again and again.
_TRIES: Final = 3
_SHARED: Final = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A search, checked. `embedding` is pgvector's text form; without one, words alone count."""

    query: str | None
    embedding: str | None
    space: EmbeddingSpace
    k: int

    @property
    def depth(self) -> int:
        """How many of each ranking are fused: below this, a chunk that both have would be missed."""
        return self.k if self.query is None or self.embedding is None else max(40, 4 * self.k)


async def search(cursor: TenantCursor, wanted: Wanted) -> list[Hit]:
    """Raises DependencyUnavailable where the shelves change under it again and again."""
    await cursor.execute(_LIKE_THIS, prepare=False)
    shelves = await shelves_of(cursor)
    for _ in range(_TRIES):
        near = await _nearest(cursor, wanted, shelves)
        matching = await _matching(cursor, wanted)
        hits = await _read(cursor, fuse(near, matching, wanted.k), shelves)
        after = await shelves_of(cursor)
        if after == shelves:
            return hits
        shelves = after
    raise DependencyUnavailable("The library is being rearranged.", retry_after_seconds=1)


async def shelves_of(cursor: TenantCursor) -> list[int]:
    """The partitions that hold chunks of this tenant: the shared one, and its own."""
    await cursor.execute(statement("shelves"), {"org_id": cursor.org_id})
    row = await cursor.fetchone()
    return list(row["shelves"]) if row else [_SHARED]


async def _nearest(cursor: TenantCursor, wanted: Wanted, shelves: Sequence[int]) -> list[ChunkKey]:
    if wanted.embedding is None:
        return []
    found = await _by_distance(cursor, wanted, shelves)
    if len(found) < wanted.depth and list(shelves) != [_SHARED]:
        # Dead entries of an index can use up its scan: the k hits are owed all the same.
        await cursor.execute(_EXACTLY)
        found = await _by_distance(cursor, wanted, shelves)
        await cursor.execute(_AS_BEFORE)
    return found


async def _by_distance(
    cursor: TenantCursor, wanted: Wanted, shelves: Sequence[int]
) -> list[ChunkKey]:
    values = {
        "org_id": cursor.org_id,
        "shelves": list(shelves),
        "model": wanted.space.model,
        "dimensions": wanted.space.dimensions,
        "embedding": wanted.embedding,
        "depth": wanted.depth,
    }
    await cursor.execute(statement("nearest_chunks"), values)
    return [(row["document_id"], row["position"]) for row in await cursor.fetchall()]


async def _matching(cursor: TenantCursor, wanted: Wanted) -> list[ChunkKey]:
    if wanted.query is None:
        return []
    values = {"query": wanted.query, "depth": wanted.depth}
    await cursor.execute(statement("matching_chunks"), values)
    return [(row["document_id"], row["position"]) for row in await cursor.fetchall()]


async def _read(cursor: TenantCursor, fused: Sequence[Fused], shelves: Sequence[int]) -> list[Hit]:
    values = {
        "org_id": cursor.org_id,
        "shelves": list(shelves),
        "document_ids": [found.key[0] for found in fused],
        "positions": [found.key[1] for found in fused],
    }
    await cursor.execute(statement("chunks_found"), values)
    rows = {(row["document_id"], row["position"]): row for row in await cursor.fetchall()}
    return [
        Hit(
            document_id=found.key[0],
            document_name=rows[found.key]["document_name"],
            position=found.key[1],
            heading=rows[found.key]["heading"],
            text=rows[found.key]["body"],
            score=found.score,
            vector_rank=found.vector_rank,
            text_rank=found.text_rank,
        )
        for found in fused
        if found.key in rows  # deleted since it was found
    ]
