from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.dataplane.models.prices import TokenCount
from tenantplane.dataplane.models.slices import Cover, Slices

GRANT = ModelGrant(
    name="assistant-1",
    provider="scripted",
    upstream_model="small",
    input_nanousd_per_token=1,
    output_nanousd_per_token=1,
    max_output_tokens=100_000,
    context_tokens=100_000,
)
SLICES = Slices(slice_tokens=1_000, margin_tokens=50)


def test_a_long_stream_is_held_for_a_slice_and_a_short_one_as_a_whole() -> None:
    assert SLICES.first(GRANT, {}, 100_000) == 1_000
    assert SLICES.first(GRANT, {}, 300) == 300


@pytest.mark.parametrize("option", ["reasoning_effort", "reasoning", "thinking"])
def test_a_request_for_thought_is_held_as_a_whole(option: str) -> None:
    assert SLICES.first(GRANT, {option: "low"}, 100_000) == 100_000


def test_a_model_with_a_price_for_thought_is_held_as_a_whole() -> None:
    thinker = GRANT.model_copy(update={"reasoning_nanousd_per_token": 1})
    assert SLICES.first(thinker, {}, 100_000) == 100_000


def test_a_model_that_thought_unseen_is_held_as_a_whole_from_then_on() -> None:
    slices = Slices(slice_tokens=1_000, margin_tokens=50)
    slices.learn(GRANT, TokenCount(5, 400), produced_bytes=400)
    assert slices.first(GRANT, {}, 100_000) == 1_000
    slices.learn(GRANT, TokenCount(5, 417), produced_bytes=400)
    assert slices.first(GRANT, {}, 100_000) == 100_000
    other = GRANT.model_copy(update={"upstream_model": "large"})
    assert slices.first(other, {}, 100_000) == 1_000


@pytest.mark.parametrize("margin", [0, -1, 26, 100])
def test_a_margin_that_leaves_no_room_is_refused(margin: int) -> None:
    with pytest.raises(ValueError, match="margin_tokens"):
        Slices(slice_tokens=100, margin_tokens=margin)


def test_a_first_hold_that_a_cap_made_smaller_is_all_that_the_provider_is_told_of() -> None:
    assert Cover.of(SLICES, limit=10_000, first=1_000, held=999).limit == 999
    assert Cover.of(SLICES, limit=10_000, first=1_000, held=1_000).limit == 10_000


def test_more_is_asked_for_when_half_a_slice_is_left_and_not_again_at_once() -> None:
    cover = Cover.of(SLICES, limit=10_000, first=1_000, held=1_000)
    assert not cover.wants_more(500)
    assert cover.wants_more(501)
    assert cover.ask(501) == (2_000, 1_050)
    cover.got(1_000)  # there was nothing
    assert not cover.wants_more(750)
    assert cover.wants_more(751)
    cover.ask(751)
    cover.got(1_700)
    assert not cover.wants_more(1_200)


def test_a_piece_larger_than_a_slice_is_asked_for_as_a_whole() -> None:
    cover = Cover.of(SLICES, limit=100_000, first=1_000, held=1_000)
    assert cover.ask(7_000) == (8_000, 1_050)
    cover.got(8_000)
    assert cover.allows(7_000)


@given(
    st.integers(1, 5_000),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1_200)), max_size=200),
)
def test_a_stream_that_goes_on_keeps_its_margin(limit: int, steps: list[tuple[int, int]]) -> None:
    """Whatever it produces, and however little it is given of what it asks for."""
    cover = Cover.of(SLICES, limit=limit, first=min(limit, 1_000), held=min(limit, 1_000))
    produced = 0
    for tokens, given_tokens in steps:
        produced += tokens
        if cover.wants_more(produced):
            wanted, least = cover.ask(produced)
            assert cover.held < least <= wanted <= limit
            room = cover.held + given_tokens
            cover.got(min(wanted, room) if room >= least else cover.held)
        if not cover.allows(produced):
            break
        assert cover.held == cover.limit or produced + SLICES.margin_tokens <= cover.held
