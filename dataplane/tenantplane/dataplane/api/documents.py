"""/tp/v1/documents: the org's documents, put, listed, searched and deleted.

    POST   /tp/v1/documents              the document as the body (?name=…), or a form with `file`
    GET    /tp/v1/documents              a page of the list
    POST   /tp/v1/documents/search       the passages nearest to a question
    GET    /tp/v1/documents/{id}
    DELETE /tp/v1/documents/{id}

Another org's id is answered as one that never was. Uploads and searches are metered; their answers
and refusals name the run and its audit records, as those of chat do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from tenantplane.core.errors import TenantplaneError
from tenantplane.core.telemetry.logging import about
from tenantplane.dataplane.api.chat_bodies import run_headers
from tenantplane.dataplane.api.problems import rendered
from tenantplane.dataplane.api.uploads import read_upload
from tenantplane.dataplane.gate.request import RequestTenant, request_run_id, request_tenant
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.models.providers import Providers
from tenantplane.dataplane.sources.documents.access import require_documents
from tenantplane.dataplane.sources.documents.service import (
    MAX_HITS,
    MAX_QUERY_CHARS,
    Documents,
    Question,
    SearchMode,
)
from tenantplane.dataplane.sources.vectors.library import DocumentRow, EmbeddingSpace, Hit

DOCUMENTS_PATH: Final = "/tp/v1/documents"
MAX_PAGE: Final = 200

Work = Callable[[MeteredRun], Awaitable[BaseModel]]


class DocumentView(BaseModel):
    """`status` stale: it waits to be embedded by the org's present embedding model, and is found
    by its words until then."""

    document_id: UUID
    name: str
    media_type: str
    bytes: int
    chunks: int
    sha256: str
    status: Literal["ready", "stale"]
    user_id: str
    created_at: datetime
    updated_at: datetime


class DocumentPage(BaseModel):
    """`next` is the `after` of the page that follows; null at the end."""

    items: list[DocumentView]
    next: UUID | None


class SearchRequest(BaseModel):
    """`embedding_model` names one of the org's; absent, its first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: Annotated[
        str, Field(min_length=1, max_length=MAX_QUERY_CHARS, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")
    ]
    k: Annotated[int, Field(ge=1, le=MAX_HITS)] = 10
    mode: SearchMode = "hybrid"
    embedding_model: str | None = None


class HitView(BaseModel):
    """A passage. `score` orders the hits of one answer; ranks begin with 1, null where the passage
    was not found that way."""

    document_id: UUID
    document_name: str
    position: int
    heading: str | None
    text: str
    score: float
    vector_rank: int | None
    text_rank: int | None


class SearchView(BaseModel):
    """`partial`: some documents were searched by their words alone (DocumentView)."""

    hits: list[HitView]
    mode: SearchMode
    partial: bool


def document_routes(documents: Documents, meter: Meter, providers: Providers) -> APIRouter:
    router = APIRouter(prefix=DOCUMENTS_PATH)

    async def metered(request: Request, status: int, work: Work) -> Response:
        tenant = request_tenant(request.scope)
        # Before the body is read: each of these begins with a call that counts as a request.
        meter.refusals.require_room(tenant.snapshot, tenant.context)
        run = MeteredRun(
            meter,
            providers,
            tenant.context,
            tenant.snapshot,
            tenant.standing,
            run_id=request_run_id(request.scope),
            thread_id=None,
        )
        with about(run_id=run.run_id):
            return await _answered(run, request.url.path, status, work)

    @router.post("")
    async def upload(request: Request) -> Response:
        tenant = request_tenant(request.scope)
        require_documents(tenant.context, tenant.snapshot)  # before the body is read
        space = documents.space(tenant.snapshot)

        async def work(run: MeteredRun) -> BaseModel:
            return _view(await documents.upload(run, await read_upload(request)), space)

        return await metered(request, 201, work)

    @router.post("/search")
    async def search(request: Request, asked: SearchRequest) -> Response:
        question = Question(asked.query, asked.k, asked.mode, asked.embedding_model)

        async def work(run: MeteredRun) -> BaseModel:
            found = await documents.search(run, question)
            hits = [_hit(hit) for hit in found.hits]
            return SearchView(hits=hits, mode=found.mode, partial=found.partial)

        return await metered(request, 200, work)

    @router.get("")
    async def page(
        request: Request,
        after: UUID | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> DocumentPage:
        tenant = request_tenant(request.scope)
        rows = await documents.listed(tenant.context, tenant.snapshot, after, limit + 1)
        space = documents.space(tenant.snapshot)
        more = rows[limit - 1].document_id if len(rows) > limit else None
        return DocumentPage(items=[_view(row, space) for row in rows[:limit]], next=more)

    @router.get("/{document_id}")
    async def one(document_id: UUID, request: Request) -> DocumentView:
        tenant: RequestTenant = request_tenant(request.scope)
        row = await documents.one(tenant.context, tenant.snapshot, document_id)
        return _view(row, documents.space(tenant.snapshot))

    @router.delete("/{document_id}", status_code=204)
    async def delete(document_id: UUID, request: Request) -> None:
        tenant = request_tenant(request.scope)
        await documents.delete(tenant.context, tenant.snapshot, document_id)

    return router


async def _answered(run: MeteredRun, path: str, status: int, work: Work) -> Response:
    """The answer of a metered request; a refusal too says which calls were made before it."""
    try:
        body = await work(run)
    except TenantplaneError as refused:
        status, fields, content = rendered(refused, path)
        response = Response(content, status)
        response.raw_headers = fields
        for name, value in run_headers(run, with_cost=True).items():
            response.headers.setdefault(name, value)  # what refused it says more
        return response
    return Response(
        body.model_dump_json(),
        status,
        run_headers(run, with_cost=True),
        media_type="application/json",
    )


def _view(row: DocumentRow, space: EmbeddingSpace | None) -> DocumentView:
    # By the snapshot, not by what the library saw last: an org without an embedding model waits
    # for nothing.
    stale = space is not None and row.embedding_model != space.model
    return DocumentView(
        document_id=row.document_id,
        name=row.name,
        media_type=row.media_type,
        bytes=row.bytes,
        chunks=row.chunks,
        sha256=row.sha256,
        status="stale" if stale else "ready",
        user_id=row.user_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _hit(hit: Hit) -> HitView:
    return HitView(
        document_id=hit.document_id,
        document_name=hit.document_name,
        position=hit.position,
        heading=hit.heading,
        text=hit.text,
        score=hit.score,
        vector_rank=hit.vector_rank,
        text_rank=hit.text_rank,
    )
