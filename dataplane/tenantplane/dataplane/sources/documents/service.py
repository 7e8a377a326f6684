"""Documents of an org: uploaded, searched, listed, deleted.

    upload   turn → read in a process of its own → embed, batch by batch → put, at once and whole
    search   embed the question → the org's library, by meaning and by words

What if the process dies in an upload: nothing is there of it, or all; what was embedded is paid for
and recorded. Never a transaction across a call of a model.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from pydantic import JsonValue

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable, InvalidInput, NotFound, TenantplaneError
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.models.calls import EmbeddingCall
from tenantplane.dataplane.models.embeddings import embedding_grant, embedding_grants, unit
from tenantplane.dataplane.models.providers import Providers
from tenantplane.dataplane.sources.documents.access import require_documents
from tenantplane.dataplane.sources.documents.embedding import embed_texts, space_of
from tenantplane.dataplane.sources.documents.media import document_name, medium_of
from tenantplane.dataplane.sources.documents.processes import ReaderProcesses
from tenantplane.dataplane.sources.documents.reading import too_large
from tenantplane.dataplane.sources.documents.settings import DocumentsSettings
from tenantplane.dataplane.sources.vectors.library import (
    DocumentRow,
    EmbeddingSpace,
    Hit,
    Library,
    NewChunk,
)

SearchMode = Literal["hybrid", "vector", "text"]

MAX_HITS: Final = 50
MAX_QUERY_CHARS: Final = 4_000
UPLOAD, SEARCH = "documents_upload", "documents_search"
_RETRY_AFTER_SECONDS = 30.0
_SEARCH_SECONDS = 60.0
# Metered calls outlive what they meter by this: the time to write their outcome.
_SETTLING_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Upload:
    """A document as it was sent. `embedding_model` names a grant; None: the org's first."""

    name: str | None
    declared_type: str | None
    data: bytes
    embedding_model: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """`text` of up to MAX_QUERY_CHARS; `k` of up to MAX_HITS."""

    text: str
    k: int = 10
    mode: SearchMode = "hybrid"
    embedding_model: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """`partial`: some documents wait to be embedded by the model in force; until then they are
    found by their words alone."""

    hits: list[Hit]
    mode: SearchMode
    partial: bool


@dataclass(slots=True)
class _Call:
    """The metered call around an upload or a search; `result` is what its record says of the end."""

    result: dict[str, JsonValue] = field(default_factory=dict)


class Documents:
    """Shared by all orgs; each method takes the caller's tenant, and binds its library to it."""

    def __init__(
        self, database: Database, providers: Providers, settings: DocumentsSettings
    ) -> None:
        self._database = database
        self._providers = providers
        self._settings = settings
        self._readers = ReaderProcesses(settings)

    async def close(self) -> None:
        await self._readers.close()

    async def upload(self, run: MeteredRun, upload: Upload) -> DocumentRow:
        """Puts a document, in place of one of the same name.

        Raises Forbidden, InvalidInput, Unprocessable (says what is wrong with the document),
        DependencyUnavailable, and what metering raises.
        """
        require_documents(run.tenant, run.snapshot)
        grant = embedding_grant(run.snapshot, run.tenant, upload.embedding_model)
        space = space_of(grant, self._providers)
        name = document_name(upload.name)
        if len(upload.data) > self._settings.document_bytes:
            raise too_large(f"is larger than {self._settings.document_bytes} bytes")
        medium = medium_of(upload.declared_type, name, upload.data)
        digest = hashlib.sha256(upload.data).hexdigest()
        about: dict[str, JsonValue] = {"document": name, "sha256": digest}
        asked = {**about, "bytes": len(upload.data), "media_type": medium.media_type}
        async with self._metered(run, UPLOAD, asked, self._settings.upload_seconds) as call:
            passages = await self._readers.read(run.tenant.org_id, upload.data, medium)
            texts = [passage.text for passage in passages]
            vectors = await embed_texts(run, grant, texts, about, self._settings.texts_per_call)
            row = await self.library(run.tenant).put(
                name,
                medium.media_type,
                digest,
                len(upload.data),
                run.tenant.user_id,
                space,
                [
                    NewChunk(passage.text, vector, position, passage.heading)
                    for position, (passage, vector) in enumerate(
                        zip(passages, vectors, strict=True)
                    )
                ],
            )
            call.result |= {"document_id": str(row.document_id), "chunks": row.chunks}
        return row

    async def search(self, run: MeteredRun, question: Question) -> Found:
        """The passages nearest to the question, of the caller's org alone.

        Raises Forbidden, DependencyUnavailable, and what metering raises.
        """
        require_documents(run.tenant, run.snapshot)
        if question.mode == "text":
            return await self._search_words(run, question)
        grant = embedding_grant(run.snapshot, run.tenant, question.embedding_model)
        space = space_of(grant, self._providers)
        audited: dict[str, JsonValue] = {"query": question.text, "k": question.k}
        answer = await run.embed(EmbeddingCall(grant, [question.text], audited))
        library = self.library(run.tenant)
        hits = await library.search(
            question.text, unit(answer.vectors[0]), space, question.k, question.mode
        )
        return Found(hits, question.mode, partial=await _has_stale(library, space))

    async def _search_words(self, run: MeteredRun, question: Question) -> Found:
        audited: dict[str, JsonValue] = {"query": question.text, "k": question.k, "mode": "text"}
        async with self._metered(run, SEARCH, audited, _SEARCH_SECONDS) as call:
            # Words are found in whatever space their document lies.
            space = self.space(run.snapshot) or EmbeddingSpace("none", 1)
            hits = await self.library(run.tenant).search(
                question.text, None, space, question.k, "text"
            )
            call.result["hits"] = len(hits)
        return Found(hits, "text", partial=False)

    async def listed(
        self, tenant: TenantContext, snapshot: Snapshot, after: UUID | None, limit: int
    ) -> list[DocumentRow]:
        """A page in the order of their ids, beginning after one. Raises Forbidden."""
        require_documents(tenant, snapshot)
        return await self.library(tenant).documents(after, limit)

    async def one(
        self, tenant: TenantContext, snapshot: Snapshot, document_id: UUID
    ) -> DocumentRow:
        """Raises Forbidden, NotFound (the same for another org's)."""
        require_documents(tenant, snapshot)
        row = await self.library(tenant).get(document_id)
        if row is None:
            raise _not_found(document_id)
        return row

    async def delete(self, tenant: TenantContext, snapshot: Snapshot, document_id: UUID) -> None:
        """The document, its text and its vectors. Not metered: who is at a cap may still delete.

        Raises Forbidden, NotFound (the same for another org's).
        """
        require_documents(tenant, snapshot)
        if not await self.library(tenant).delete(document_id):
            raise _not_found(document_id)

    async def delete_all(self, org_id: str) -> int:
        """All documents of an org that is purged; answers how many they were."""
        return await Library(self._database, org_id).delete_all()

    def library(self, tenant: TenantContext) -> Library:
        return Library(self._database, tenant.org_id)

    def space(self, snapshot: Snapshot) -> EmbeddingSpace | None:
        """Of the org's own embedding model; None where it has none that this plane can name."""
        try:
            return next((space_of(g, self._providers) for g in embedding_grants(snapshot)), None)
        except (DependencyUnavailable, InvalidInput):
            return None

    @asynccontextmanager
    async def _metered(
        self, run: MeteredRun, name: str, asked: Mapping[str, JsonValue], seconds: float
    ) -> AsyncIterator[_Call]:
        """Work that is a call of its own: admitted, recorded, and ended in time."""
        opened = await run.open_tool(name, dict(asked), seconds + _SETTLING_SECONDS)
        call = _Call()
        try:
            async with asyncio.timeout(seconds):
                yield call
        except TenantplaneError as refused:
            await run.close_tool(opened, {"error": refused.error_code}, failed=refused.error_code)
            raise
        except TimeoutError as late:
            await run.close_tool(opened, {"error": "timed_out"}, failed="timed_out")
            raise DependencyUnavailable(
                f"{name} did not end in {seconds:g} s.",
                hint="Try again; send a long document in parts.",
                code="timed_out",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            ) from late
        except BaseException:
            await run.abandon_tool(opened)
            raise
        await run.close_tool(opened, call.result, failed=None)


async def _has_stale(library: Library, space: EmbeddingSpace) -> bool:
    return bool(await library.stale(space, 1))


def _not_found(document_id: UUID) -> NotFound:
    return NotFound(f"There is no document {document_id}.", code="document_not_found")
