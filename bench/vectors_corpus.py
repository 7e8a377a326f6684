"""A corpus like a plane's: tenants of all sizes, whose vectors lie in clusters that they share.

A vector is a topic's centre plus two textures: directions drawn in 32 dimensions and spread over all
of them. Embeddings of text are like that (they fill few of their dimensions), and isotropic noise is
not: its nearest neighbours all lie equally far, and mean nothing. Seeded: each run is the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import Final

from tenantplane.dataplane.sources.vectors.library import NewChunk

DIMENSIONS: Final = 256
_LATENT: Final = 32
_TOPICS: Final = 150
_TOPICS_OF_A_TENANT: Final = 12
_TEXTURES: Final = 3000
_VOCABULARY: Final = 30_000
_WORDS_OF_A_CHUNK: Final = 90

Vector = list[float]


def sizes(tenants: int, smallest: int, largest: int, total: int) -> list[int]:
    """Sizes from `smallest` to `largest` that sum to about `total`.

    Spread evenly in the logarithm they would sum to what they must; so their logarithms are bent
    (by a power of the place) until the sum is the wanted one, and both ends stay.
    """
    low, high = 0.2, 5.0
    for _ in range(60):
        bend = (low + high) / 2
        made = _bent(tenants, smallest, largest, bend)
        low, high = (bend, high) if sum(made) > total else (low, bend)
    return made


def _bent(tenants: int, smallest: int, largest: int, bend: float) -> list[int]:
    ratio = largest / smallest
    return [round(smallest * ratio ** ((n / (tenants - 1)) ** bend)) for n in range(tenants)]


@dataclass
class Corpus:
    """What chunks and queries are drawn from."""

    seed: int = 1
    _textures: list[Vector] = field(init=False, repr=False)
    _topics: list[Vector] = field(init=False, repr=False)
    _words: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        draw = random.Random(self.seed)
        spread = [[draw.gauss(0, 1) for _ in range(_LATENT)] for _ in range(DIMENSIONS)]

        def texture() -> Vector:
            latent = [draw.gauss(0, 0.5) for _ in range(_LATENT)]
            return [sum(map(mul, row, latent)) / _LATENT**0.5 for row in spread]

        self._textures = [texture() for _ in range(_TEXTURES)]
        self._topics = [[2 * x for x in texture()] for _ in range(_TOPICS)]
        # Words as languages have them: few are everywhere, most are rare (Zipf).
        self._words = [
            f"word{min(_VOCABULARY, int(draw.paretovariate(0.7)))}" for _ in range(200_000)
        ]

    def vectors(self, tenant: int, count: int, stream: str) -> Iterator[Vector]:
        """Of a tenant's own mixture of topics; another `stream` draws others of it."""
        draw = random.Random(f"{self.seed}:{tenant}")
        topics = draw.sample(self._topics, _TOPICS_OF_A_TENANT)
        draw = random.Random(f"{self.seed}:{tenant}:{stream}")
        for _ in range(count):
            yield self._near(draw, draw.choice(topics))

    def around(self, queries: Sequence[Vector], count: int) -> Iterator[Vector]:
        """A flood: as near to these queries as chunks that answer them."""
        draw = random.Random(f"{self.seed}:flood")
        for _ in range(count):
            texture = draw.choice(self._textures)
            yield [q + 0.3 * t for q, t in zip(draw.choice(queries), texture, strict=True)]

    def chunks(self, vectors: Iterator[Vector], stream: str) -> list[NewChunk]:
        """With texts of natural frequencies, one for each vector."""
        draw = random.Random(f"{self.seed}:words:{stream}")
        made = []
        for position, vector in enumerate(vectors):
            at = draw.randrange(len(self._words) - _WORDS_OF_A_CHUNK)
            text = " ".join(self._words[at : at + _WORDS_OF_A_CHUNK])
            made.append(NewChunk(text, vector, position))
        return made

    def questions(self, tenant: int, count: int) -> list[str]:
        """A common word, two less common ones and a rare one."""
        draw = random.Random(f"{self.seed}:{tenant}:questions")
        ranks = ((1, 9), (50, 400), (50, 400), (1000, 8000))
        return [" ".join(f"word{draw.randint(*r)}" for r in ranks) for _ in range(count)]

    def _near(self, draw: random.Random, topic: Vector) -> Vector:
        one, other = draw.choice(self._textures), draw.choice(self._textures)
        return [a + b + c for a, b, c in zip(topic, one, other, strict=True)]
