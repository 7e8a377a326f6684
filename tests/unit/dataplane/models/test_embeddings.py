from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import DependencyUnavailable, InvalidInput
from tenantplane.dataplane.models.embeddings import (
    MAX_TEXT_BYTES,
    MAX_TEXTS,
    dimensions_of,
    require_texts,
    unit,
    upstream_name,
    vectors_of,
)
from tenantplane.dataplane.models.prices import (
    TokenCount,
    bound_embedding,
    cost,
    reported_embedding_tokens,
)
from tenantplane.dataplane.models.prompts import texts_size
from tenantplane.dataplane.models.providers import Providers
from tenantplane.dataplane.models.script_embeddings import embeddings

NO_PROVIDERS = Providers({})


def grant(**changed: Any) -> ModelGrant:
    fields = {
        "name": "embedder",
        "kind": "embedding",
        "dimensions": 2,
        "provider": "scripted",
        "upstream_model": "small",
        "input_nanousd_per_token": 20,
        "output_nanousd_per_token": 0,
        "max_output_tokens": 1,
        "context_tokens": 100,
    }
    return ModelGrant.model_validate(fields | changed)


def item(index: Any, embedding: Any) -> dict[str, Any]:
    return {"index": index, "embedding": embedding}


def test_vectors_stand_in_the_order_of_their_index() -> None:
    body = {"data": [item(1, [0, 2]), item(0, [1.5, 0])]}
    assert vectors_of(body, 2, 2) == [[1.5, 0.0], [0.0, 2.0]]


def test_without_an_index_they_stand_in_the_order_of_the_texts() -> None:
    assert vectors_of({"data": [{"embedding": [3, 4]}]}, 1, 2) == [[3.0, 4.0]]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [item(0, [1, 0])],
        [item(0, [1, 0]), item(0, [0, 1])],
        [item(0, [1, 0]), item(2, [0, 1])],
        [item(0, [1, 0]), item(-1, [0, 1])],
        [item(0, [1, 0]), item(True, [0, 1])],
        [item(0, [1, 0]), item("1", [0, 1])],
        [item(0, [1, 0]), item(1, [0, 1, 2])],
        [item(0, [1, 0]), item(1, [0])],
        [item(0, [1, 0]), item(1, [math.nan, 1])],
        [item(0, [1, 0]), item(1, [math.inf, 1])],
        [item(0, [1, 0]), item(1, [True, 1])],
        [item(0, [1, 0]), item(1, ["0", 1])],
        [item(0, [1, 0]), item(1, [0, 0])],
        [item(0, [1, 0]), item(1, [1e-30, 0])],
        [item(0, [1, 0]), item(1, [1e300, 1e300])],
        [item(0, [1, 0]), item(1, None)],
        [item(0, [1, 0]), "vector"],
    ],
    ids=[f"answer-{number}" for number in range(19)],
)
def test_an_answer_that_would_lie_in_an_index_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="vector"):
        vectors_of({"data": data}, 2, 2)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8).filter(lambda v: math.hypot(*v) > 1e-6)
)
def test_a_unit_vector_has_length_one(vector: list[float]) -> None:
    assert math.hypot(*unit(vector)) == pytest.approx(1)


def test_two_grants_of_one_upstream_share_a_space_and_the_builtin_names_its_own() -> None:
    builtin = grant(provider="builtin", upstream_model="x")
    assert upstream_name(builtin, NO_PROVIDERS) == "builtin/hashing-1"
    assert upstream_name(grant(name="other", provider="builtin"), NO_PROVIDERS) == upstream_name(
        builtin, NO_PROVIDERS
    )


def test_only_the_builtin_model_has_a_length_that_the_plan_need_not_say() -> None:
    assert dimensions_of(grant(dimensions=None, provider="builtin"), NO_PROVIDERS) == 384
    with pytest.raises(DependencyUnavailable, match="dimensions"):
        dimensions_of(grant(dimensions=None), NO_PROVIDERS)


@pytest.mark.parametrize(
    "texts",
    [[], [""], ["a", " \n"], ["é" * (MAX_TEXT_BYTES // 2 + 1)], ["a"] * (MAX_TEXTS + 1)],
    ids=["none", "empty", "blank", "long", "many"],
)
def test_what_no_provider_embeds_is_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidInput):
        require_texts(texts)


@given(st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=5))
def test_what_a_call_uses_never_passes_its_bound(texts: list[str]) -> None:
    bound = bound_embedding(grant(), texts_size(texts, None, 10_000))
    used = sum(len(text.split()) + 1 for text in texts)
    assert cost(grant(), TokenCount(used, 0), bound) <= bound.worst_case_nanousd


def test_a_text_is_read_as_far_as_the_models_context() -> None:
    size = texts_size(["a" * 5_000, "b"], None, 100)
    assert bound_embedding(grant(), size).prompt_tokens == 100 + 17


def test_a_call_above_any_cap_is_refused() -> None:
    dear = grant(input_nanousd_per_token=10**15, context_tokens=10_000)
    with pytest.raises(InvalidInput, match="above any cap"):
        bound_embedding(dear, texts_size(["a" * 9_000], None, 10_000))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "total_tokens": 7}, TokenCount(7, 0)),
        (None, None),
        ({"prompt_tokens": -7}, None),
        ({"prompt_tokens": 0}, None),
        ({"prompt_tokens": 1.5}, None),
        ({"prompt_tokens": True}, None),
        ({}, None),
    ],
)
@pytest.mark.fault("F40")
def test_a_report_that_cannot_be_true_is_not_believed(
    usage: object, tokens: TokenCount | None
) -> None:
    assert reported_embedding_tokens(usage) == tokens


def test_the_scripted_models_vectors_of_two_models_have_nothing_in_common() -> None:
    def vector(model: str) -> list[float]:
        body = {"model": model, "input": "the safe is open", "dimensions": 128}
        return list(embeddings(body)["data"][0]["embedding"])

    assert vector("a") == vector("a")
    assert abs(sum(x * y for x, y in zip(vector("a"), vector("b"), strict=True))) < 0.5
