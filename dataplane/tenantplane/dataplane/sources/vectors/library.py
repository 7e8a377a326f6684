"""A tenant's documents and vectors: the only way to them, bound to one org.

No method takes an org, so none can be asked for another's. Each is one transaction of that tenant:
it happens whole or not at all, whatever dies. Writers of one org take turns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, LiteralString
from uuid import UUID

import psycopg

from tenantplane.core.db.pool import Database, TenantCursor
from tenantplane.core.errors import DependencyUnavailable, InvalidInput
from tenantplane.core.ids import new_id
from tenantplane.dataplane.sources.vectors import search as searching
from tenantplane.dataplane.sources.vectors.checks import (
    check_chunks,
    check_k,
    check_space,
    vector_text,
    words_of,
)
from tenantplane.dataplane.sources.vectors.records import (
    DocumentRow,
    EmbeddingSpace,
    Hit,
    NewChunk,
    StaleDocument,
)
from tenantplane.dataplane.sources.vectors.search import Wanted, shelves_of
from tenantplane.dataplane.sources.vectors.statements import statement

__all__ = ["DocumentRow", "EmbeddingSpace", "Hit", "Library", "Mode", "NewChunk", "StaleDocument"]

Mode = Literal["hybrid", "vector", "text"]

# Of 384 dimensions, one statement is then about a megabyte.
_CHUNKS_A_STATEMENT: Final = 200


class Library:
    """The documents of `org_id`. Cheap to make; holds nothing but the database.

    All methods raise DependencyUnavailable; also where the server has no pgvector.
    """

    def __init__(self, database: Database, org_id: str) -> None:
        self._database = database
        self._org_id = org_id

    async def put(
        self,
        name: str,
        media_type: str,
        sha256: str,
        size_bytes: int,
        user_id: str,
        space: EmbeddingSpace,
        chunks: Sequence[NewChunk],
    ) -> DocumentRow:
        """Keeps a document; one of the same name is replaced, and keeps its id. `sha256` in hex.

        Raises InvalidInput: a vector that is not of the space, a NUL in a text, two chunks with the
        same position.
        """
        check_space(space)
        check_chunks(chunks)
        vectors = [vector_text(chunk.embedding, space) for chunk in chunks]
        async with self._writing() as cursor:
            shelves = await shelves_of(cursor)
            old = await self._one(cursor, statement("find_document_by_name"), name=name)
            document_id = old["document_id"] if old else new_id()
            if old:
                await self._run(
                    cursor, statement("delete_chunks"), document_id=document_id, shelves=shelves
                )
            await self._run(
                cursor,
                statement("put_document"),
                document_id=document_id,
                name=name,
                media_type=media_type,
                size_bytes=size_bytes,
                sha256=sha256,
                chunks=len(chunks),
                user_id=user_id,
                **_in(space),
            )
            await self._put_chunks(cursor, document_id, space, chunks, vectors)
            grown = len(chunks) - (old["chunks"] if old else 0)
            await self._count(cursor, documents=0 if old else 1, chunks=grown, **_in(space))
            return await self._document(cursor, document_id)

    async def get(self, document_id: UUID) -> DocumentRow | None:
        """None where there is no such document, or it is another org's."""
        async with self._database.tenant_tx(self._org_id) as cursor:
            row = await self._one(cursor, statement("get_document"), document_id=document_id)
        return DocumentRow(**row) if row else None

    async def documents(self, after: UUID | None, limit: int) -> list[DocumentRow]:
        """In the order in which they were first put; those after that id."""
        async with self._database.tenant_tx(self._org_id) as cursor:
            await self._run(cursor, statement("list_documents"), after=after, limit=limit)
            return [DocumentRow(**row) for row in await cursor.fetchall()]

    async def delete(self, document_id: UUID) -> bool:
        """The document, its chunks and their vectors. False where there is no such document."""
        async with self._writing() as cursor:
            gone = await self._one(cursor, statement("delete_document"), document_id=document_id)
            if gone is None:
                return False
            shelves = await shelves_of(cursor)
            await self._run(
                cursor, statement("delete_chunks"), document_id=document_id, shelves=shelves
            )
            await self._count(cursor, documents=-1, chunks=-gone["chunks"])
            return True

    async def delete_all(self) -> int:
        """All of the org's documents; answers how many. What its own index keeps of deleted rows on
        disk goes when the indexer next takes that shelf back."""
        async with self._writing() as cursor:
            shelves = await shelves_of(cursor)
            await self._run(cursor, statement("delete_all_chunks"), shelves=shelves)
            await self._run(cursor, statement("delete_all_documents"))
            documents = cursor.rowcount
            await self._run(cursor, statement("close_library"))
            return documents

    async def search(
        self,
        query_text: str,
        embedding: Sequence[float] | None,
        space: EmbeddingSpace,
        k: int,
        mode: Mode = "hybrid",
    ) -> list[Hit]:
        """The `k` best chunks, best first; fewer only where there are fewer.

        `vector`: the nearest of this space, by cosine. `text`: of all spaces, by their words; the
        syntax is that of web search (quotes, or, -). `hybrid`: both, fused by rank; without an
        embedding it is `text`.

        Raises InvalidInput: k not in 1..100, a vector that is not of the space or is missing.
        """
        check_k(k)
        check_space(space)
        if mode == "vector" and embedding is None:
            raise InvalidInput("A search by vector needs an embedding.", code="embedding_invalid")
        vector = None if embedding is None or mode == "text" else vector_text(embedding, space)
        wanted = Wanted(
            query=None if mode == "vector" else words_of(query_text),
            embedding=vector,
            space=space,
            k=k,
        )
        async with self._tx() as cursor:
            return await searching.search(cursor, wanted)

    async def stale(self, space: EmbeddingSpace, limit: int) -> list[StaleDocument]:
        """Up to `limit` documents of other spaces than this one, with what is to be embedded."""
        found = []
        async with self._database.tenant_tx(self._org_id) as cursor:
            await self._run(cursor, statement("stale_documents"), limit=limit, **_in(space))
            rows = await cursor.fetchall()
            shelves = await shelves_of(cursor)
            for row in rows:
                version = row.pop("version")
                await self._run(
                    cursor,
                    statement("texts_of_document"),
                    document_id=row["document_id"],
                    shelves=shelves,
                )
                chunks = await cursor.fetchall()
                found.append(
                    StaleDocument(
                        DocumentRow(**row),
                        version,
                        tuple(chunk["body"] for chunk in chunks),
                        tuple(chunk["heading"] for chunk in chunks),
                    )
                )
        return found

    async def re_embed(
        self,
        document_id: UUID,
        space: EmbeddingSpace,
        embeddings: Sequence[Sequence[float]],
        *,
        of_version: int,
    ) -> bool:
        """Puts a document into another space at once, with vectors in the order of its chunks.

        False where it is gone or not `of_version` any more: read it again. Raises InvalidInput.
        """
        check_space(space)
        vectors = [vector_text(embedding, space) for embedding in embeddings]
        async with self._writing() as cursor:
            claimed = await self._one(
                cursor,
                statement("claim_version"),
                document_id=document_id,
                version=of_version,
                **_in(space),
            )
            if claimed is None:
                return False
            shelves = await shelves_of(cursor)
            await self._run(
                cursor, statement("positions_of_document"), document_id=document_id, shelves=shelves
            )
            positions = [row["position"] for row in await cursor.fetchall()]
            if len(positions) != len(vectors):
                raise InvalidInput(
                    f"The document has {len(positions)} chunks; {len(vectors)} vectors were given.",
                    code="embedding_invalid",
                )
            for part in _parts(len(vectors)):
                await self._run(
                    cursor,
                    statement("re_embed_chunks"),
                    document_id=document_id,
                    shelves=shelves,
                    positions=positions[part],
                    embeddings=vectors[part],
                    **_in(space),
                )
            await self._count(cursor, documents=0, chunks=0, **_in(space))
            return True

    async def _put_chunks(
        self,
        cursor: TenantCursor,
        document_id: UUID,
        space: EmbeddingSpace,
        chunks: Sequence[NewChunk],
        vectors: Sequence[str],
    ) -> None:
        for part in _parts(len(chunks)):
            await self._run(
                cursor,
                statement("put_chunks"),
                document_id=document_id,
                positions=[chunk.position for chunk in chunks[part]],
                headings=[chunk.heading for chunk in chunks[part]],
                bodies=[chunk.text for chunk in chunks[part]],
                embeddings=list(vectors[part]),
                **_in(space),
            )

    async def _document(self, cursor: TenantCursor, document_id: UUID) -> DocumentRow:
        row = await self._one(cursor, statement("get_document"), document_id=document_id)
        assert row is not None
        return DocumentRow(**row)

    async def _count(
        self,
        cursor: TenantCursor,
        *,
        documents: int,
        chunks: int,
        model: str | None = None,
        dimensions: int | None = None,
    ) -> None:
        await self._run(
            cursor,
            statement("count_library"),
            documents=documents,
            chunks=chunks,
            model=model,
            dimensions=dimensions,
        )

    async def _run(self, cursor: TenantCursor, query: LiteralString, **values: object) -> None:
        # A generic plan would open, and wait for, every tenant's shelf: so these are not prepared.
        prepare = False if "shelves" in values else None
        await cursor.execute(query, {"org_id": self._org_id, **values}, prepare=prepare)

    async def _one(
        self, cursor: TenantCursor, query: LiteralString, **values: object
    ) -> dict[str, Any] | None:
        await self._run(cursor, query, **values)
        return await cursor.fetchone()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[TenantCursor]:
        async with self._tx() as cursor:
            await self._run(cursor, statement("open_library"))
            yield cursor

    @asynccontextmanager
    async def _tx(self) -> AsyncIterator[TenantCursor]:
        try:
            async with self._database.tenant_tx(self._org_id) as cursor:
                yield cursor
        except psycopg.errors.UndefinedObject as missing:
            raise DependencyUnavailable(
                "This plane's Postgres has no pgvector: it cannot keep or search vectors.",
                hint="Have the extension 'vector' installed, and run the bootstrap and migrations.",
            ) from missing


def _in(space: EmbeddingSpace) -> dict[str, Any]:
    return {"model": space.model, "dimensions": space.dimensions}


def _parts(count: int) -> list[slice]:
    return [slice(at, at + _CHUNKS_A_STATEMENT) for at in range(0, count, _CHUNKS_A_STATEMENT)]
