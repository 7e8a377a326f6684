"""What the library takes, without a server."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.errors import InvalidInput
from tenantplane.dataplane.sources.vectors.checks import (
    LONGEST_CHUNK,
    MOST_DIMENSIONS,
    MOST_HITS,
    check_chunks,
    check_k,
    check_space,
    vector_text,
    words_of,
)
from tenantplane.dataplane.sources.vectors.records import EmbeddingSpace, NewChunk

SPACE = EmbeddingSpace("m", 3)


@pytest.mark.parametrize(
    "embedding",
    [
        (1.0, 2.0),
        (1.0, 2.0, 3.0, 4.0),
        (),
        (math.nan, 1.0, 1.0),
        (math.inf, 1.0, 1.0),
        (-math.inf, 1.0, 1.0),
        (1e39, 1.0, 1.0),
        (0.0, 0.0, 0.0),
        (1e-20, 0.0, 0.0),
        (1e300, 1e300, 1e300),
    ],
    ids=str,
)
def test_no_vector_of_the_space(embedding: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        vector_text(embedding, SPACE)
    assert refused.value.error_code == "embedding_invalid"


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3))
def test_the_text_of_a_vector_reads_back_as_it(embedding: list[float]) -> None:
    if sum(x * x for x in embedding) < 1e-30:
        return
    text = vector_text(embedding, SPACE)
    assert text[0] + text[-1] == "[]"
    read = [float(x) for x in text[1:-1].split(",")]
    assert read == pytest.approx(embedding, rel=1e-7)


def test_every_bad_chunk_is_named() -> None:
    chunks = [
        NewChunk("good", (1.0,), 0),
        NewChunk("b\x00d", (1.0,), 1),
        NewChunk("good", (1.0,), 1),
        NewChunk("good", (1.0,), 3, heading="\x00"),
        NewChunk("half \ud800", (1.0,), 4),
        NewChunk("x" * (LONGEST_CHUNK + 1), (1.0,), 5),
        NewChunk("good", (1.0,), -1),
    ]
    with pytest.raises(InvalidInput) as refused:
        check_chunks(chunks)
    assert [error.path for error in refused.value.errors] == [
        "chunks.1",
        "chunks.3",
        "chunks.4",
        "chunks.5",
        "chunks",
        "chunks",
    ]
    check_chunks(chunks[:1])


@pytest.mark.parametrize("dimensions", [0, -1, MOST_DIMENSIONS + 1])
def test_no_space(dimensions: int) -> None:
    with pytest.raises(InvalidInput):
        check_space(EmbeddingSpace("m", dimensions))
    check_space(EmbeddingSpace("m", MOST_DIMENSIONS))


@pytest.mark.parametrize("k", [0, -1, MOST_HITS + 1])
def test_no_k(k: int) -> None:
    with pytest.raises(InvalidInput):
        check_k(k)
    check_k(1)
    check_k(MOST_HITS)


def test_a_query_with_nul_is_asked_without_it() -> None:
    assert words_of("a\x00b \ud800") == "a b ?"
    assert len(words_of("x" * 100_000)) == 8_000
