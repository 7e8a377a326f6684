"""Bodies of POST /v1/embeddings, as OpenAI's clients write and read them. Pure.

Shape: platform.openai.com/docs/api-reference/embeddings/create. The official clients ask for
base64 unless told otherwise, so both forms are served; texts that are tokenised already are not,
since nothing here could bound what they cost.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tenantplane.core.apis.snapshot import ModelGrant, Snapshot
from tenantplane.core.errors import FieldError, InvalidInput, NotFound
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.allowed import allowed_model
from tenantplane.dataplane.models.calls import EmbeddingCall
from tenantplane.dataplane.models.embeddings import MAX_TEXTS

_AUDITED_CHARS = 4_000


class EmbeddingsRequest(BaseModel):
    """What is asked for. `dimensions` must be the grant's, where it is said at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_TEXTS)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None  # a label of the caller's own: who calls is settled before

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.input,) if isinstance(self.input, str) else self.input


def parse_embeddings_request(body: bytes) -> EmbeddingsRequest:
    """Raises InvalidInput, naming every bad field."""
    try:
        return EmbeddingsRequest.model_validate_json(body)
    except ValidationError as invalid:
        errors = tuple(
            FieldError(".".join(str(part) for part in e["loc"]) or "body", e["msg"])
            for e in invalid.errors(include_url=False, include_input=False)
        )
        detail = "; ".join(f"{error.path}: {error.message}" for error in errors[:3])
        raise InvalidInput(f"The request is not valid: {detail}.", errors=errors) from invalid


def granted_model(
    request: EmbeddingsRequest, snapshot: Snapshot, tenant: TenantContext
) -> ModelGrant:
    """The grant of that name. Raises NotFound, the same where it is a chat model's, and
    InvalidInput for other dimensions than its own."""
    grant = allowed_model(snapshot, tenant, request.model)
    if grant is None or grant.kind != "embedding":
        raise NotFound(
            f"The model {request.model!r} does not exist or is not on your org's list.",
            hint="GET /v1/models lists what is.",
            code="model_not_found",
        )
    if request.dimensions not in (None, grant.dimensions):
        message = f"the model's vectors have {grant.dimensions} dimensions here"
        raise InvalidInput(f"dimensions: {message}.", errors=(FieldError("dimensions", message),))
    return grant


def embedding_call(request: EmbeddingsRequest, grant: ModelGrant) -> EmbeddingCall:
    """The metered call; its record keeps the beginning of the texts, as chat's keeps messages."""
    return EmbeddingCall(grant, request.texts, {"input": _audited(request.texts)})


def embeddings_body(
    request: EmbeddingsRequest, vectors: Sequence[Sequence[float]], input_tokens: int
) -> dict[str, Any]:
    usage: Mapping[str, JsonValue] = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    encoded = request.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _base64(vector) if encoded else list(vector),
        }
        for index, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def _base64(vector: Sequence[float]) -> str:
    """Little-endian 4-byte floats, as the official clients decode them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _audited(texts: Sequence[str]) -> list[JsonValue]:
    kept: list[JsonValue] = []
    left = _AUDITED_CHARS
    for text in texts:
        if left <= 0:
            kept.append(f"[{len(texts) - len(kept)} more]")
            break
        kept.append(text[:left])
        left -= len(text)
    return kept
