from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.dataplane.models.hashing import DIMENSIONS, hash_text, hash_texts


def nearness(one: str, other: str) -> float:
    return sum(x * y for x, y in zip(hash_text(one), hash_text(other), strict=True))


@given(st.text(min_size=1).filter(lambda text: text.strip() != ""))
def test_a_vector_is_deterministic_and_of_length_one(text: str) -> None:
    try:
        vector = hash_text(text)
    except ValueError:  # marks alone, such as a combining accent
        return
    assert len(vector) == DIMENSIONS
    assert math.hypot(*vector) == pytest.approx(1)
    assert vector == hash_text(text)


def test_it_is_the_same_in_every_process_and_release() -> None:
    # Vectors lie in databases: whoever changes these raises hashing.UPSTREAM.
    vector = hash_text("Vacation days are granted in January.")
    biggest = sorted(range(DIMENSIONS), key=lambda place: (-round(abs(vector[place]), 6), place))[
        :4
    ]
    assert [(place, round(vector[place], 4)) for place in biggest] == [
        (25, -0.2626),
        (27, -0.2626),
        (63, -0.2626),
        (160, -0.2626),
    ]


def test_texts_with_common_words_are_nearer() -> None:
    question = "How many vacation days do I have?"
    about = "Each employee has 30 vacation days a year."
    assert nearness(question, about) > nearness(question, "The reactor core is cooled by sodium.")
    assert nearness("Ｖacation", "vacation") == pytest.approx(1)  # a wide letter
    assert nearness("vacations", "vacation") > 0.5


def test_a_text_without_a_feature_is_refused() -> None:
    with pytest.raises(ValueError, match="word"):
        hash_text(" ")


async def test_long_texts_are_hashed_like_short_ones() -> None:
    long = "word and number 12 " * 2_000
    assert await hash_texts([long, "a"], 64) == [hash_text(long, 64), hash_text("a", 64)]
