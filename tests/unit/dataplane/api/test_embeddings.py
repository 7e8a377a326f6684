from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import InvalidInput, NotFound
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.api.embeddings import (
    EmbeddingsRequest,
    embedding_call,
    embeddings_body,
    granted_model,
    parse_embeddings_request,
)
from tests.fixtures.ledger import a_snapshot

TENANT = TenantContext("acme", "acme", "user:u", "u", "pro", "local")


def grant(name: str, kind: str) -> ModelGrant:
    fields: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "dimensions": 3 if kind == "embedding" else None,
        "provider": "p",
        "upstream_model": name,
        "input_nanousd_per_token": 1,
        "output_nanousd_per_token": 0,
        "max_output_tokens": 1,
        "context_tokens": 100,
    }
    return ModelGrant.model_validate(fields)


SNAPSHOT = a_snapshot("acme").model_copy(
    update={"models": (grant("assistant-1", "chat"), grant("embedder", "embedding"))}
)


def request(**fields: object) -> EmbeddingsRequest:
    body = {"model": "embedder", "input": "text"} | fields
    return parse_embeddings_request(json.dumps(body).encode())


def test_one_text_or_several() -> None:
    assert request().texts == ("text",)
    assert request(input=["a", "b"], user="me", encoding_format="base64").texts == ("a", "b")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"input": "a"}',
        b'{"model": "m"}',
        b'{"model": "m", "input": ""}',
        b'{"model": "m", "input": []}',
        b'{"model": "m", "input": [1, 2]}',
        b'{"model": "m", "input": [[1, 2]]}',
        b'{"model": "m", "input": "a", "encoding_format": "hex"}',
        b'{"model": "m", "input": "a", "stream": true}',
    ],
    ids=[f"body-{number}" for number in range(10)],
)
def test_what_is_no_request_is_refused_with_its_fields(body: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_embeddings_request(body)
    assert refused.value.errors


@pytest.mark.parametrize("model", ["assistant-1", "agent/embedder", "gpt-9"])
def test_only_an_embedding_model_of_the_list_embeds(model: str) -> None:
    assert granted_model(request(), SNAPSHOT, TENANT).name == "embedder"
    with pytest.raises(NotFound) as refused:
        granted_model(request(model=model), SNAPSHOT, TENANT)
    assert refused.value.error_code == "model_not_found"


def test_a_key_without_the_model_in_its_scopes_does_not_embed() -> None:
    scoped = TenantContext(
        "acme", "acme", "key:k", "u", "pro", "local", scopes=frozenset({"assistant-1"})
    )
    with pytest.raises(NotFound):
        granted_model(request(), SNAPSHOT, scoped)


def test_vectors_of_another_length_are_not_promised() -> None:
    assert granted_model(request(dimensions=3), SNAPSHOT, TENANT)
    with pytest.raises(InvalidInput, match="3 dimensions"):
        granted_model(request(dimensions=2), SNAPSHOT, TENANT)


def test_the_answer_in_both_forms() -> None:
    vectors = [[1.0, 0.0, -0.5]]
    floats = embeddings_body(request(), vectors, 4)
    assert floats["data"] == [{"object": "embedding", "index": 0, "embedding": [1.0, 0.0, -0.5]}]
    assert floats["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    packed = embeddings_body(request(encoding_format="base64"), vectors, 4)["data"][0]["embedding"]
    assert struct.unpack("<3f", base64.b64decode(packed)) == (1.0, 0.0, -0.5)


def test_the_record_keeps_the_beginning() -> None:
    call = embedding_call(request(input=["a" * 3_999, "bcd", "e", "f"]), SNAPSHOT.models[1])
    assert call.audited == {"input": ["a" * 3_999, "b", "[2 more]"]}
