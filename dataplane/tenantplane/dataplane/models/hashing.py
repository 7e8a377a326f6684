"""The offline default among embedding models: feature hashing, no download, no network, no model.

Lexical, for development and for planes without a provider: it finds texts that share words and
parts of words with the question, not those that say the same in others. Deterministic, so vectors
of two processes meet.

Features are words and the character trigrams within them, weighted by 1 + ln(count); a digest of
each gives its place and its sign (Weinberger et al. 2009, "Feature Hashing for Large Scale
Multitask Learning", whose signs keep inner products unbiased). The vector has length 1.
"""

from __future__ import annotations

import asyncio
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

DIMENSIONS: Final = 384
# Part of the space's name: whoever changes how texts are hashed raises it, and documents follow.
UPSTREAM: Final = "hashing-1"

_WORD = re.compile(r"\w+|[^\w\s]+")
# A word says more than one of its parts.
_WORD_WEIGHT: Final = 2.0
_GRAM: Final = 3
_LONG_CHARS: Final = 4_000


async def hash_texts(texts: Sequence[str], dimensions: int = DIMENSIONS) -> list[list[float]]:
    """A vector for each text. Other tasks get their turn between two texts, a millisecond each;
    longer ones are hashed in a thread. Raises as `hash_text`."""
    vectors = []
    for text in texts:
        if len(text) > _LONG_CHARS:
            vectors.append(await asyncio.to_thread(hash_text, text, dimensions))
            continue
        vectors.append(hash_text(text, dimensions))
        await asyncio.sleep(0)
    return vectors


def hash_text(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """The vector of a text, of length 1. Raises ValueError for a text without a feature."""
    weights = [0.0] * dimensions
    for feature, count in Counter(_features(text)).items():
        place, sign = _hashed(feature)
        weight = _WORD_WEIGHT if feature[0] == "w" else 1.0
        weights[place % dimensions] += sign * weight * (1.0 + math.log(count))
    norm = math.sqrt(math.fsum(weight * weight for weight in weights))
    if norm == 0.0:
        raise ValueError("a text needs a word, a number or a sign to be embedded")
    return [weight / norm for weight in weights]


def _features(text: str) -> Iterator[str]:
    # Compatibility forms and case folded: PDF text has ligatures and wide letters.
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        yield f"w{word}"
        padded = f" {word} "
        for start in range(len(padded) - _GRAM + 1):
            yield f"t{padded[start : start + _GRAM]}"


@lru_cache(maxsize=65_536)
def _hashed(feature: str) -> tuple[int, int]:
    digest = blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    return number >> 1, 1 if number & 1 else -1
