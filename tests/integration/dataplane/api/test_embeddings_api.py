"""POST /v1/embeddings as OpenAI's own client calls it."""

from __future__ import annotations

import openai
import pytest

from tenantplane.dataplane.models.hashing import hash_text
from tests.fixtures.document_plane import BUILTIN, DocumentPlane, DocumentTenant, embedding_grant


def client(plane: DocumentPlane, tenant: DocumentTenant) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{plane.agents.base_url}/v1", api_key=tenant.key, max_retries=0
    )


async def test_the_official_client_embeds(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant(BUILTIN, embedding_grant())
    async with client(document_plane, tenant) as api:
        # The client asks for base64, and decodes it.
        one = await api.embeddings.create(model="lexical", input="thirty days")
        assert one.data[0].embedding == pytest.approx(hash_text("thirty days"), abs=1e-6)
        raw = await api.embeddings.with_raw_response.create(
            model="embedder", input=["a", "b c"], encoding_format="float"
        )
        several = raw.parse()
        assert [len(item.embedding) for item in several.data] == [384, 384]
        assert [item.index for item in several.data] == [0, 1]
        assert several.usage.total_tokens == 5
        cost = int(raw.headers["x-tenantplane-cost-nanousd"])
        record_id = raw.headers["x-tenantplane-audit-records"]
        record = await document_plane.agents.record(tenant.under_test, record_id)
        assert "b c" in record.model_dump_json()
        assert cost == 5 * 20
        models = [model.id async for model in await api.models.list()]
        assert "lexical" in models
        assert "agent/lexical" not in models


async def test_each_model_does_what_it_is_for(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant(BUILTIN)
    async with client(document_plane, tenant) as api:
        messages = [{"role": "user", "content": "Hello"}]
        for model in ("lexical", "agent/lexical"):
            with pytest.raises(openai.NotFoundError, match="does not exist"):
                await api.chat.completions.create(model=model, messages=messages)  # type: ignore[arg-type]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await api.embeddings.create(model="assistant-1", input="text")
        with pytest.raises(openai.BadRequestError):
            await api.embeddings.create(model="lexical", input="")
    assert await document_plane.agents.outcomes(tenant.under_test) == []
