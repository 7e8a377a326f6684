"""Embedding models: the builtin one, and providers that speak OpenAI's `/v1/embeddings`.

Shape: platform.openai.com/docs/api-reference/embeddings. What a provider answers is checked whole
before it is used: a vector that is short, out of order, not finite or without length would lie in
an index for as long as its document does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantplane.core.apis.snapshot import ModelGrant, Snapshot
from tenantplane.core.errors import DependencyUnavailable, Forbidden, InvalidInput
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.allowed import is_allowed
from tenantplane.dataplane.models import hashing
from tenantplane.dataplane.models.providers import MISCONFIGURED, Providers, broken_answer

BUILTIN: Final = "builtin"
_BUILTIN_SECONDS: Final = 60.0
# Longer texts are documents, which are cut before they are embedded.
MAX_TEXT_BYTES: Final = 65_536
MAX_TEXTS: Final = 2_048  # OpenAI's own bound
# Outside of these a vector's direction is noise, or its length overflows a 4-byte float.
_SHORTEST, _LONGEST = 1e-9, 1e9


@dataclass(frozen=True, slots=True)
class EmbeddingAnswer:
    """One vector for each text, in their order, and `usage` as the provider said it."""

    vectors: list[list[float]]
    usage: object


def embedding_grants(snapshot: Snapshot) -> tuple[ModelGrant, ...]:
    """The embedding models that the org may use, the one it uses unless told otherwise first."""
    return tuple(grant for grant in snapshot.models if grant.kind == "embedding")


def embedding_grant(snapshot: Snapshot, tenant: TenantContext, name: str | None) -> ModelGrant:
    """The embedding model named, where the caller may use it, else the org's first: that one
    belongs to the documents, which lie in its space. Raises Forbidden."""
    for grant in embedding_grants(snapshot):
        if name is None:
            return grant
        if grant.name == name and is_allowed("model", name, snapshot, tenant):
            return grant
    raise Forbidden(
        "Your org has no embedding model on its list."
        if name is None
        else f"The embedding model {name[:200]!r} is not on your org's list.",
        hint="Its plan can grant one: a model of kind 'embedding'.",
        code="embedding_model_not_allowed",
    )


def is_builtin(grant: ModelGrant, providers: Providers) -> bool:
    """Whether the plane computes the vectors itself; a provider of that name goes before."""
    return grant.provider == BUILTIN and not providers.has(BUILTIN)


def dimensions_of(grant: ModelGrant, providers: Providers) -> int:
    """Length of the model's vectors. Raises DependencyUnavailable where the plan does not say."""
    if grant.dimensions is not None:
        return grant.dimensions
    if is_builtin(grant, providers):
        return hashing.DIMENSIONS
    raise DependencyUnavailable(
        f"Nothing says how long the vectors of model {grant.name!r} are.",
        hint="The plan gives its 'dimensions'.",
        code=MISCONFIGURED,
    )


def upstream_name(grant: ModelGrant, providers: Providers) -> str:
    """Names what makes the vectors. Two grants of one upstream share a space; one grant whose
    upstream changes leaves its old vectors behind in another."""
    if is_builtin(grant, providers):
        return f"{BUILTIN}/{hashing.UPSTREAM}"
    return f"{grant.provider}/{providers.upstream_model(grant)}"


def timeout_seconds(grant: ModelGrant, providers: Providers) -> float:
    """After this a call is over for sure. Raises DependencyUnavailable (not configured)."""
    return _BUILTIN_SECONDS if is_builtin(grant, providers) else providers.timeout_seconds(grant)


def require_texts(texts: Sequence[str]) -> None:
    """Raises InvalidInput for what no provider embeds."""
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise InvalidInput(f"Between 1 and {MAX_TEXTS} texts can be embedded at once.")
    for text in texts:
        if not text.strip():
            raise InvalidInput("An empty text cannot be embedded.")
        if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
            raise InvalidInput(
                f"A text to embed is longer than {MAX_TEXT_BYTES} bytes.",
                hint="Upload it as a document, or cut it.",
            )


async def embed(providers: Providers, grant: ModelGrant, texts: Sequence[str]) -> EmbeddingAnswer:
    """Vectors of the texts, checked.

    Raises InvalidInput (the provider refuses the texts), DependencyUnavailable. No retries: a call
    that may have been billed is never made twice.
    """
    dimensions = dimensions_of(grant, providers)
    if is_builtin(grant, providers):
        try:
            vectors = await hashing.hash_texts(texts, dimensions)
        except ValueError as featureless:
            raise InvalidInput(str(featureless)) from featureless
        used = sum(len(text.split()) for text in texts)
        return EmbeddingAnswer(vectors, {"prompt_tokens": max(1, used)})
    # Numbers as text: `base64` would save bytes, but self-hosted servers do not all know it.
    body = await providers.embed(grant, {"input": list(texts), "encoding_format": "float"})
    try:
        return EmbeddingAnswer(vectors_of(body, len(texts), dimensions), body.get("usage"))
    except ValueError as wrong:
        raise broken_answer(grant, str(wrong)) from wrong


def vectors_of(body: Mapping[str, Any], count: int, dimensions: int) -> list[list[float]]:
    """The vectors of an answer in the order of `index`. Raises ValueError, saying what is wrong."""
    data = body.get("data")
    if not isinstance(data, list) or len(data) != count:
        raise ValueError("another number of vectors than texts")
    found: dict[int, list[float]] = {}
    for position, given in enumerate(data):
        item = given if isinstance(given, Mapping) else {}
        # Without an index they stand in the order of the texts.
        index = item.get("index", position)
        if type(index) is not int or not 0 <= index < count or index in found:
            raise ValueError("vectors that cannot be put in order")
        found[index] = _vector(item.get("embedding"), dimensions)
    return [found[index] for index in range(count)]


def unit(vector: Sequence[float]) -> list[float]:
    """The vector of the same direction and length 1."""
    norm = math.hypot(*vector)
    return [number / norm for number in vector]


def _vector(numbers: object, dimensions: int) -> list[float]:
    if not isinstance(numbers, list) or len(numbers) != dimensions:
        raise ValueError(f"a vector that has not {dimensions} dimensions")
    # bool is an int in Python, and JSON as Python reads it has NaN and Infinity.
    if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        raise ValueError("a vector with what is not a number")
    vector = [float(n) for n in numbers]
    if not _SHORTEST <= math.hypot(*vector) <= _LONGEST:
        raise ValueError("a vector without a direction")
    return vector
