"""What the library takes: vectors of the space, texts that Postgres can keep, sane sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from tenantplane.core.errors import FieldError, InvalidInput
from tenantplane.dataplane.sources.vectors.records import EmbeddingSpace, NewChunk

MOST_HITS: Final = 100
# Far below what Postgres can index the words of (1 MiB of lexemes), far above what a model embeds.
LONGEST_CHUNK: Final = 100_000
_LONGEST_QUERY: Final = 8_000
MOST_DIMENSIONS: Final = 2000  # pgvector's HNSW index on the type vector ends there
_LARGEST: Final = 3.4e38  # of a 4-byte float


def vector_text(embedding: Sequence[float], space: EmbeddingSpace) -> str:
    """pgvector's text form. Raises InvalidInput for a vector that is not of the space, or has no
    direction: its cosine distance would be NaN, and it would stand anywhere in a ranking."""
    if len(embedding) != space.dimensions:
        raise _no_vector(f"has {len(embedding)} dimensions, the space has {space.dimensions}")
    if not all(math.isfinite(x) and abs(x) < _LARGEST for x in embedding):
        raise _no_vector("holds a number that is not finite")
    squared = sum(x * x for x in embedding)
    # What vanishes in 4-byte floats has no direction either.
    if squared < 1e-30 or not math.isfinite(squared):
        raise _no_vector("has no direction: its length is zero, or beyond a float's range")
    return "[" + ",".join([f"{x:.8g}" for x in embedding]) + "]"


def check_space(space: EmbeddingSpace) -> None:
    """Raises InvalidInput for dimensions that cannot be indexed."""
    if not 1 <= space.dimensions <= MOST_DIMENSIONS:
        raise InvalidInput(
            f"An embedding space has 1 to {MOST_DIMENSIONS} dimensions, not {space.dimensions}."
        )


def check_chunks(chunks: Sequence[NewChunk]) -> None:
    """Raises InvalidInput, naming every chunk that cannot be kept."""
    errors = [
        FieldError(f"chunks.{number}", "holds a NUL or half of a surrogate pair: take it out")
        for number, chunk in enumerate(chunks)
        if not all(map(_can_be_kept, (chunk.text, chunk.heading or "")))
    ]
    errors += [
        FieldError(f"chunks.{number}", f"is longer than {LONGEST_CHUNK} characters: split it")
        for number, chunk in enumerate(chunks)
        if len(chunk.text) + len(chunk.heading or "") > LONGEST_CHUNK
    ]
    if len({chunk.position for chunk in chunks}) != len(chunks):
        errors.append(FieldError("chunks", "two have the same position"))
    if any(chunk.position < 0 for chunk in chunks):
        errors.append(FieldError("chunks", "positions count from 0"))
    if errors:
        raise InvalidInput("The chunks cannot be kept.", errors=tuple(errors))


def check_k(k: int) -> None:
    """Raises InvalidInput."""
    if not 1 <= k <= MOST_HITS:
        raise InvalidInput(
            f"k must be from 1 to {MOST_HITS}.",
            errors=(FieldError("k", f"is {k}; 1 to {MOST_HITS}"),),
        )


def words_of(query: str) -> str:
    """The query as Postgres takes it: neither NUL nor half of a surrogate pair stands in a text.
    What comes after 8,000 characters is not looked for."""
    return query[:_LONGEST_QUERY].replace("\x00", " ").encode(errors="replace").decode()


def _can_be_kept(text: str) -> bool:
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def _no_vector(what: str) -> InvalidInput:
    return InvalidInput(
        f"The embedding {what}.",
        hint="Check which model made it, and the grant's dimensions.",
        code="embedding_invalid",
    )
