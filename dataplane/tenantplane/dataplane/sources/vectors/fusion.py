"""Two rankings into one, by rank alone: a cosine and a text rank have no common scale.

Reciprocal rank fusion: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet
and individual Rank Learning Methods", SIGIR 2009, with their constant of 60.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_K: Final = 60

ChunkKey = tuple[UUID, int]  # document and position


@dataclass(frozen=True, slots=True)
class Fused:
    """A chunk with its ranks, from 1, in the rankings that have it."""

    key: ChunkKey
    score: float
    vector_rank: int | None
    text_rank: int | None


def fuse(by_vector: Sequence[ChunkKey], by_text: Sequence[ChunkKey], k: int) -> list[Fused]:
    """The best `k`, best first; of equal scores the one that is nearer by its vector."""
    vector_ranks = {key: rank for rank, key in enumerate(by_vector, start=1)}
    text_ranks = {key: rank for rank, key in enumerate(by_text, start=1)}
    fused = [
        Fused(
            key,
            _share(vector_ranks.get(key)) + _share(text_ranks.get(key)),
            vector_ranks.get(key),
            text_ranks.get(key),
        )
        for key in dict.fromkeys((*by_vector, *by_text))
    ]
    # Sorting is stable: equal scores keep the order above, vectors first.
    return sorted(fused, key=lambda found: -found.score)[:k]


def _share(rank: int | None) -> float:
    return 0.0 if rank is None else 1.0 / (_K + rank)
