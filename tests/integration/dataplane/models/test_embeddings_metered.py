"""Embeddings of the scripted provider and of the builtin model, on the real meter."""

from __future__ import annotations

import math

import pytest

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import DependencyUnavailable, HardCapReached, InvalidInput
from tenantplane.dataplane.models.calls import EmbeddingCall
from tenantplane.dataplane.models.hashing import hash_text
from tenantplane.dataplane.models.prices import bound_embedding
from tenantplane.dataplane.models.prompts import texts_size
from tests.fixtures.document_plane import BUILTIN, DocumentPlane, DocumentTenant, embedding_grant

TEXTS = ["the safe is open", "thirty days of leave"]


async def embed(tenant: DocumentTenant, grant: ModelGrant, *texts: str) -> list[list[float]]:
    made = await tenant.run().embed(EmbeddingCall(grant, texts or TEXTS, {"texts": "some"}))
    return made.vectors


async def test_a_provider_is_asked_once_for_all_texts(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant()
    calls = len(document_plane.agents.model.app.calls)
    vectors = await embed(tenant, embedding_grant())
    assert [len(vector) for vector in vectors] == [384, 384]
    asked = [call.body for call in document_plane.agents.model.app.calls[calls:]]
    assert asked == [{"model": "embedder", "input": TEXTS, "encoding_format": "float"}]
    (outcome,) = await document_plane.agents.outcomes(tenant.under_test)
    assert (outcome["stage"], outcome["output_tokens"]) == ("actual", 0)
    assert outcome["input_tokens"] == sum(len(text.split()) + 1 for text in TEXTS)


async def test_the_builtin_model_asks_nobody(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant(BUILTIN)
    calls = len(document_plane.agents.model.app.calls)
    vectors = await embed(tenant, BUILTIN)
    assert vectors == [hash_text(text) for text in TEXTS]
    assert math.hypot(*vectors[0]) == pytest.approx(1)
    assert len(document_plane.agents.model.app.calls) == calls
    (outcome,) = await document_plane.agents.outcomes(tenant.under_test)
    assert outcome["cost_nanousd"] > 0  # what the plan asks for it


@pytest.mark.parametrize(
    ("fault", "code", "billed"),
    [
        ("embedding-short", "provider_broken_answer", True),
        ("embedding-dimensions", "provider_broken_answer", True),
        ("embedding-nan", "provider_broken_answer", True),
        ("embedding-zero", "provider_broken_answer", True),
        ("embedding-twice", "provider_broken_answer", True),
        ("429", "provider_rate_limited", False),
        ("500", "provider_unavailable", False),
        ("400", "provider_refused", False),
    ],
)
async def test_a_broken_answer_counts_at_its_worst_and_a_refusal_nothing(
    document_plane: DocumentPlane, fault: str, code: str, billed: bool
) -> None:
    tenant = document_plane.tenant()
    texts = [f"[[fault:{fault}]]", "other"]
    grant = embedding_grant(upstream_model=fault)  # a 429 is honoured by all who ask the same one
    with pytest.raises((DependencyUnavailable, InvalidInput)) as failed:
        await embed(tenant, grant, *texts)
    assert failed.value.error_code == code
    (outcome,) = await document_plane.agents.outcomes(tenant.under_test)
    size = texts_size(texts, None, embedding_grant().context_tokens)
    worst = bound_embedding(embedding_grant(), size).worst_case_nanousd
    assert outcome["cost_nanousd"] == (worst if billed else 0)
    assert outcome["stage"] == ("estimated" if billed else "actual")
    spend = await document_plane.agents.spend(tenant.under_test)
    assert spend.held_nanousd == 0


async def test_a_provider_that_never_answers_may_bill(document_plane: DocumentPlane) -> None:
    grant = embedding_grant(provider="impatient")
    tenant = document_plane.tenant(grant)
    with pytest.raises(DependencyUnavailable) as failed:
        await embed(tenant, grant, "[[fault:hang]]")
    assert failed.value.error_code == "provider_timeout"
    (outcome,) = await document_plane.agents.outcomes(tenant.under_test)
    assert outcome["stage"] == "estimated"


@pytest.mark.parametrize("provider", ["absent", "not-configured"])
async def test_a_provider_that_is_not_there_costs_nothing(
    document_plane: DocumentPlane, provider: str
) -> None:
    grant = embedding_grant(provider=provider)
    tenant = document_plane.tenant(grant)
    with pytest.raises(DependencyUnavailable):
        await embed(tenant, grant)
    spend = await document_plane.agents.spend(tenant.under_test)
    assert (spend.settled_nanousd, spend.held_nanousd) == (0, 0)


async def test_no_call_is_made_beyond_the_cap(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant(hard_cap_nanousd=100)
    calls = len(document_plane.agents.model.app.calls)
    with pytest.raises(HardCapReached):
        await embed(tenant, embedding_grant())
    assert len(document_plane.agents.model.app.calls) == calls
