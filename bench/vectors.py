"""Recall and time of searches over 50 tenants of 200 to 60,000 chunks, 300,000 in all.

All goes through the product's wrapper as production's roles. The truth that recall is measured
against is a scan of the tenant's rows by the owner, without any index. Searches are measured twice:
when all chunks stand on the shared shelf (exact), and when the indexer has done its work.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, LiteralString

import psycopg
from psycopg.rows import DictRow, dict_row

from bench import results
from bench.results import Figure
from bench.vectors_corpus import DIMENSIONS, Corpus, Vector, sizes
from tenantplane.core.db.bootstrap import RolePasswords
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.pool import Database
from tenantplane.core.db.provision import ContextKey, provision
from tenantplane.dataplane.sources.vectors.checks import vector_text
from tenantplane.dataplane.sources.vectors.indexer import Indexer
from tenantplane.dataplane.sources.vectors.library import EmbeddingSpace, Library, Mode, NewChunk
from tenantplane.dataplane.sources.vectors.settings import VectorSettings

MIGRATIONS = Path("dataplane/tenantplane/dataplane/db/migrations")
SPACE = EmbeddingSpace("embed-1", DIMENSIONS)
K: Final = 10
_MODES: Final[tuple[Mode, ...]] = ("vector", "text", "hybrid")
_DOCUMENT_CHUNKS: Final = 1000
_GROWTH: Final = 10
_REPLICAS: Final = 2  # of a plane: each has an indexer

_TRUTH: LiteralString = """
SELECT document_id, "position" FROM dataplane.chunk
 WHERE org_id = %(org_id)s AND shelf = ANY (%(shelves)s)
 ORDER BY embedding <=> %(embedding)s::vector LIMIT %(k)s
"""
_SHELVES: LiteralString = """
SELECT ARRAY[0] || array_agg(shelf) AS shelves FROM dataplane.shelf WHERE org_id = %(org_id)s
"""


@dataclass(frozen=True)
class Scale:
    """How large the run is."""

    tenants: int = 50
    smallest: int = 200
    largest: int = 60_000
    total: int = 300_000
    queries: int = 12
    settings: VectorSettings = field(default_factory=VectorSettings)


_SMALL = Scale(tenants=8, smallest=200, largest=12_000, total=22_000)


@dataclass
class Tenant:
    """One org, its queries, and what was measured of it."""

    org_id: str
    size: int
    library: Library
    queries: list[Vector]
    questions: list[str]


@dataclass(frozen=True)
class Look:
    """One pass over all queries of a tenant: mean recall, seconds of each search."""

    recall: float
    seconds: dict[Mode, list[float]]


def run(*, cold: bool, small: bool = False) -> None:
    """Runs the suite: some minutes; `small` is for development, and written under another name."""
    del cold
    figures = asyncio.run(_measure(_SMALL if small else Scale()))
    results.write("vectors-small" if small else "vectors", figures, ("psycopg",))


async def _measure(scale: Scale) -> list[Figure]:
    # Not in a home: the server's own user must reach its folder.
    folder = Path(tempfile.mkdtemp(prefix="tenantplane-bench-vectors-"))
    server = EmbeddedPostgres.start(folder)
    try:
        async with AsyncExitStack() as opened:
            bench = await _open(server, scale, opened)
            return await bench.run()
    finally:
        server.stop(immediate=True)
        shutil.rmtree(folder)


async def _open(server: EmbeddedPostgres, scale: Scale, opened: AsyncExitStack) -> Bench:
    provisioned = await provision(
        server.admin_dsn(),
        "data",
        MIGRATIONS,
        RolePasswords.generate(),
        ContextKey("k1", secrets.token_bytes(32)),
    )
    database = Database(provisioned.settings, name="data")
    opened.push_async_callback(database.close)
    await database.open()
    owner = await psycopg.AsyncConnection[DictRow].connect(
        provisioned.owner_dsn, autocommit=True, row_factory=dict_row
    )
    opened.push_async_callback(owner.close)
    await owner.execute("SET enable_indexscan = off")
    return Bench(scale, Corpus(), database, owner)


class Bench:
    """The steps of the suite, in their order."""

    def __init__(
        self,
        scale: Scale,
        corpus: Corpus,
        database: Database,
        owner: psycopg.AsyncConnection[DictRow],
    ) -> None:
        self._scale, self._corpus = scale, corpus
        self._database, self._owner = database, owner
        made = sizes(scale.tenants, scale.smallest, scale.largest, scale.total)
        self._tenants = [
            Tenant(
                f"tenant-{number:02}",
                size,
                Library(database, f"tenant-{number:02}"),
                list(corpus.vectors(number, scale.queries, "queries")),
                corpus.questions(number, scale.queries),
            )
            for number, size in enumerate(made)
        ]

    async def run(self) -> list[Figure]:
        """All figures."""
        put = [await self._load(tenant, number) for number, tenant in enumerate(self._tenants)]
        _say(f"loaded {sum(t.size for t in self._tenants)} chunks in {sum(put):.0f} s")
        await self._owner.execute("ANALYZE dataplane.chunk")
        exact = await self._looks()
        _say("searched without indexes")
        indexing = await self._index()
        indexed = await self._looks()
        _say("searched with indexes")
        flooded = await self._flood()
        shifts = [
            abs(after.recall - before.recall)
            for before, after in zip(indexed, flooded, strict=True)
        ]
        rates = [t.size / s for t, s in zip(self._tenants, put, strict=True)]
        return [
            _worst("vectors.recall_min", [look.recall for look in (*indexed, *flooded)]),
            _largest("vectors.recall_shift", shifts),
            results.plain("vectors.put_chunks_s", rates, "1/s"),
            indexing,
            *self._times("exact", exact),
            *self._times("served", indexed),
        ]

    async def _load(self, tenant: Tenant, number: int) -> float:
        """Seconds that the wrapper took for the tenant's documents."""
        vectors = self._corpus.vectors(number, tenant.size, "chunks")
        return await self._put(tenant, self._corpus.chunks(vectors, tenant.org_id), "part")

    async def _put(self, tenant: Tenant, chunks: Sequence[NewChunk], name: str) -> float:
        started = time.perf_counter()
        for at in range(0, len(chunks), _DOCUMENT_CHUNKS):
            part = chunks[at : at + _DOCUMENT_CHUNKS]
            await tenant.library.put(
                f"{name}-{at}", "text/plain", "0" * 64, 1, "bench", SPACE, part
            )
        return time.perf_counter() - started

    async def _index(self) -> Figure:
        large = sum(
            t.size for t in self._tenants if t.size >= self._scale.settings.index_from_chunks
        )
        started = time.perf_counter()
        both = await asyncio.gather(*(self._indexer().index() for _ in range(_REPLICAS)))
        seconds = time.perf_counter() - started
        filled = sum(done.filled for done in both)
        if filled != large:
            raise RuntimeError(f"the indexers moved {filled} chunks, not {large}")
        await self._owner.execute("ANALYZE dataplane.chunk")
        _say(f"{_REPLICAS} indexers moved {filled} chunks in {seconds:.0f} s")
        return results.plain("vectors.indexed_chunks_s", [filled / seconds], "1/s")

    def _indexer(self) -> Indexer:
        return Indexer(self._database, self._scale.settings)

    async def _flood(self) -> list[Look]:
        """A tenant grows tenfold, by vectors around all others' queries."""
        place = len(self._tenants) // 2
        neighbour = self._tenants[place]
        others = [q for t in self._tenants if t is not neighbour for q in t.queries]
        flood = self._corpus.around(others, (_GROWTH - 1) * neighbour.size)
        await self._put(neighbour, self._corpus.chunks(flood, "flood"), "flood")
        on_the_shared_shelf = await self._looks(("vector",))
        _say(f"a tenant of {neighbour.size} chunks grew tenfold")
        await self._indexer().index()
        moved = await self._looks(("vector",))
        # Whichever state is the worse for each tenant counts.
        return [
            min(pair, key=lambda look: look.recall)
            for pair in zip(on_the_shared_shelf, moved, strict=True)
        ]

    async def _looks(self, modes: Sequence[Mode] = _MODES) -> list[Look]:
        return [await self._look(tenant, modes) for tenant in self._tenants]

    async def _look(self, tenant: Tenant, modes: Sequence[Mode]) -> Look:
        recalls = []
        took: dict[Mode, list[float]] = {mode: [] for mode in _MODES}
        for query, question in zip(tenant.queries, tenant.questions, strict=True):
            truth = await self._truth(tenant, query)
            for mode in modes:
                started = time.perf_counter()
                hits = await tenant.library.search(question, query, SPACE, K, mode)
                took[mode].append(time.perf_counter() - started)
                if mode == "vector":
                    found = {(hit.document_id, hit.position) for hit in hits}
                    if len(found) != K:
                        raise RuntimeError(f"{tenant.org_id} got {len(found)} of {K} hits")
                    recalls.append(len(found & truth) / K)
        return Look(statistics.mean(recalls), took)

    async def _truth(self, tenant: Tenant, query: Vector) -> set[tuple[object, int]]:
        cursor = await self._owner.execute(_SHELVES, {"org_id": tenant.org_id})
        row = await cursor.fetchone()
        assert row is not None
        values = {
            "org_id": tenant.org_id,
            "shelves": row["shelves"],
            "embedding": vector_text(query, SPACE),
            "k": K,
        }
        found = await (await self._owner.execute(_TRUTH, values)).fetchall()
        return {(row["document_id"], row["position"]) for row in found}

    def _times(self, name: str, looks: Sequence[Look]) -> list[Figure]:
        """Milliseconds by size: below a tenth of the index's size, below it, and above."""
        border = self._scale.settings.index_from_chunks
        classes = {
            "small": (0, border // 10),
            "middle": (border // 10, border),
            "large": (border, 10**9),
        }
        figures = []
        for kind, (low, high) in classes.items():
            those = [
                look
                for tenant, look in zip(self._tenants, looks, strict=True)
                if low <= tenant.size < high
            ]
            for mode in _MODES:
                all_ms = [1000 * s for look in those for s in look.seconds[mode]]
                medians = [1000 * statistics.median(look.seconds[mode]) for look in those]
                prefix = f"vectors.{name}_{kind}_{mode}"
                figures.append(results.plain(f"{prefix}_p50_ms", medians, "ms"))
                figures.append(_p95(f"{prefix}_p95_ms", all_ms))
        return figures


def _worst(name: str, samples: Sequence[float]) -> Figure:
    value = min(samples)
    return Figure(name, round(value, 4), "", ">= 0.95", value >= 0.95, _rounded(samples))


def _largest(name: str, samples: Sequence[float]) -> Figure:
    value = max(samples)
    return Figure(name, round(value, 4), "", "<= 0.01", value <= 0.01, _rounded(samples))


def _p95(name: str, samples: Sequence[float]) -> Figure:
    value = statistics.quantiles(samples, n=20)[-1]
    return Figure(name, round(value, 3), "ms", None, None, ())


def _rounded(samples: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(sample, 4) for sample in samples)


def _say(what: str) -> None:
    print(what, flush=True)
