"""Reciprocal rank fusion, without a server."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.dataplane.sources.vectors.fusion import ChunkKey, fuse


def key(number: int) -> ChunkKey:
    return (UUID(int=number), number)


def test_what_both_found_comes_before_what_one_found_at_the_same_rank() -> None:
    fused = fuse([key(1), key(2)], [key(3), key(2)], 3)
    assert [found.key for found in fused] == [key(2), key(1), key(3)]
    assert (fused[0].vector_rank, fused[0].text_rank) == (2, 2)
    assert (fused[1].vector_rank, fused[1].text_rank) == (1, None)
    assert (fused[2].vector_rank, fused[2].text_rank) == (None, 1)


def test_scores_are_those_of_the_paper() -> None:
    both, one = fuse([key(1), key(2)], [key(1)], 2)
    assert both.score == pytest.approx(2 / 61)
    assert one.score == pytest.approx(1 / 62)


@given(
    st.lists(st.integers(0, 30), unique=True),
    st.lists(st.integers(0, 30), unique=True),
    st.integers(1, 40),
)
def test_each_chunk_once_best_first_and_as_many_as_there_are(
    near: list[int], matching: list[int], k: int
) -> None:
    fused = fuse([key(n) for n in near], [key(n) for n in matching], k)
    keys = [found.key for found in fused]
    assert len(keys) == len(set(keys)) == min(k, len(set(near) | set(matching)))
    scores = [found.score for found in fused]
    assert scores == sorted(scores, reverse=True)


@given(st.lists(st.integers(0, 30), unique=True), st.integers(1, 40))
def test_one_ranking_alone_keeps_its_order(ranking: list[int], k: int) -> None:
    keys = [key(n) for n in ranking]
    assert [found.key for found in fuse(keys, [], k)] == keys[:k]
    assert [found.key for found in fuse([], keys, k)] == keys[:k]
