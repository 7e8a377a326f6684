"""Texts of one org become vectors of one space, batch by batch, each batch a metered call."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.models.calls import EmbeddingCall
from tenantplane.dataplane.models.embeddings import dimensions_of, unit, upstream_name
from tenantplane.dataplane.models.providers import Providers
from tenantplane.dataplane.sources.vectors.checks import check_space
from tenantplane.dataplane.sources.vectors.library import EmbeddingSpace


def space_of(grant: ModelGrant, providers: Providers) -> EmbeddingSpace:
    """The space of a grant's vectors: named by what makes them, since a plan may point a name at
    another model overnight. Raises DependencyUnavailable (not configured), and InvalidInput for
    vectors that no index takes: before anything is paid for."""
    dimensions = dimensions_of(grant, providers)
    space = EmbeddingSpace(f"{upstream_name(grant, providers)}@{dimensions}", dimensions)
    check_space(space)
    return space


async def embed_texts(
    run: MeteredRun,
    grant: ModelGrant,
    texts: Sequence[str],
    audited: Mapping[str, JsonValue],
    texts_per_call: int,
) -> list[Sequence[float]]:
    """A vector of length 1 for each text, as 4-byte floats: a list of Python's would take eight
    times their room. Raises what `MeteredRun.embed` raises; calls that were made stay paid for.
    """
    vectors: list[Sequence[float]] = []
    for number, batch in enumerate(_batches(texts, texts_per_call)):
        record = {**audited, "batch": number, **_description(batch)}
        answer = await run.embed(EmbeddingCall(grant, batch, record))
        vectors += [array("f", unit(vector)) for vector in answer.vectors]
    return vectors


def _batches(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def _description(texts: Sequence[str]) -> dict[str, JsonValue]:
    """Which texts they were: whoever has them can check it, nobody can read them from it."""
    digest = hashlib.sha256()
    size = 0
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        size += len(data)
        digest.update(hashlib.sha256(data).digest())
    return {"texts": len(texts), "bytes": size, "sha256_of_sha256s": digest.hexdigest()}
