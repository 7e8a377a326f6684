from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.errors import Unprocessable
from tenantplane.dataplane.sources.documents.chunking import ChunkLimits, Passage, passages
from tenantplane.dataplane.sources.documents.reading import Section

LIMITS = ChunkLimits(chunk_chars=100, overlap_chars=20, chunks=50)


def test_short_sections_stay_whole_under_their_heading() -> None:
    cut = passages([Section("A", "one"), Section(None, "two")], LIMITS)
    assert cut == [Passage("one", "A"), Passage("two", None)]


@given(st.text(alphabet=st.sampled_from("abc .\n。"), max_size=2_000))
def test_no_passage_is_longer_than_asked_and_no_letter_is_lost(text: str) -> None:
    cut = passages([Section(None, text)], LIMITS)
    assert all(0 < len(passage.text) <= 100 for passage in cut)
    for letter in "abc":
        kept = sum(passage.text.count(letter) for passage in cut)
        assert kept >= text.count(letter)


def test_sentences_are_left_whole_where_they_fit() -> None:
    text = "The first sentence is here. " * 20
    assert all(p.text.endswith("here.") for p in passages([Section(None, text)], LIMITS))


def test_more_passages_than_are_kept_are_refused() -> None:
    with pytest.raises(Unprocessable, match="more than 50 passages"):
        passages([Section(None, "word " * 2_000)], LIMITS)
