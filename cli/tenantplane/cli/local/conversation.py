"""Asks a data plane as a tenant, over the OpenAI API; what it answers, as data."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx2


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `text` is the model's, or the error's message."""

    status: int
    code: str | None
    text: str
    thread_id: str | None
    audit_records: tuple[str, ...]
    cut_to: int | None = None  # tokens that a cap had room for, where it was not all

    @property
    def ok(self) -> bool:
        return self.status == 200


@dataclass(frozen=True, slots=True)
class Spend:
    """What an org has spent in its month, and its hard cap."""

    settled_nanousd: int
    hard_cap_nanousd: int


class Tenant:
    """A tenant's connection, with one of its API keys."""

    def __init__(self, org_id: str, base_url: str, key: str) -> None:
        self.org_id = org_id
        self._http = httpx2.AsyncClient(
            base_url=base_url, headers={"authorization": f"Bearer {key}"}, timeout=60
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def ask(
        self, question: str, *, model: str, max_tokens: int | None, thread_id: str | None = None
    ) -> Reply:
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
        }
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        if thread_id is not None:
            body["metadata"] = {"thread_id": thread_id}
        response = await self._http.post("/v1/chat/completions", json=body)
        answer = response.json()
        error = answer.get("error")
        records = response.headers.get("x-tenantplane-audit-records", "")
        cut_to = response.headers.get("x-tenantplane-output-clamped-to")
        return Reply(
            status=response.status_code,
            code=error["code"] if error else None,
            text=error["message"] if error else answer["choices"][0]["message"]["content"],
            thread_id=response.headers.get("x-tenantplane-thread-id"),
            audit_records=tuple(r.strip() for r in records.split(",") if r.strip()),
            cut_to=None if cut_to is None else int(cut_to),
        )

    async def upload(self, name: str, text: str) -> Reply:
        """Puts a Markdown document; `Reply.text` is its id where it was taken."""
        response = await self._http.post(
            "/tp/v1/documents",
            params={"name": name},
            content=text.encode(),
            headers={"content-type": "text/markdown"},
        )
        return _document_reply(response)

    async def document(self, document_id: str) -> Reply:
        """What the plane says of a document of this id; `Reply.text` is its id where it has it."""
        return _document_reply(await self._http.get(f"/tp/v1/documents/{document_id}"))

    async def passages(self, question: str) -> list[str]:
        """The texts that a search finds in this tenant's documents."""
        response = await self._http.post("/tp/v1/documents/search", json={"query": question})
        response.raise_for_status()
        return [hit["text"] for hit in response.json()["hits"]]

    async def spend(self) -> Spend:
        """The org's own level of GET /tp/v1/spend, in its current month."""
        response = await self._http.get("/tp/v1/spend")
        response.raise_for_status()
        level = next(
            level
            for level in response.json()["levels"]
            if level["level_id"] == self.org_id and level["period"] == "month"
        )
        return Spend(
            settled_nanousd=level["settled"]["nanousd"],
            hard_cap_nanousd=level["hard_cap"]["nanousd"],
        )

    async def audit_record(self, record_id: str) -> dict[str, Any]:
        response = await self._http.get(f"/tp/v1/audit-records/{record_id}")
        response.raise_for_status()
        record: dict[str, Any] = response.json()
        return record


def _document_reply(response: httpx2.Response) -> Reply:
    answer = response.json()
    taken = response.is_success
    return Reply(
        status=response.status_code,
        code=None if taken else answer.get("code"),
        text=answer["document_id"] if taken else answer.get("detail", ""),
        thread_id=None,
        audit_records=(),
    )
