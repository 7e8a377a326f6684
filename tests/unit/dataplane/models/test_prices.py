from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import InvalidInput
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.models.prices import (
    LEAST_OUTPUT_TOKENS,
    CallBound,
    TokenCount,
    bound_call,
    cost,
    counted_tokens,
    reported_tokens,
)
from tenantplane.dataplane.models.prompts import PromptSize, prompt_size
from tenantplane.dataplane.models.script import answer

GRANT = ModelGrant(
    name="assistant-1",
    provider="scripted",
    upstream_model="scripted-1",
    input_nanousd_per_token=2_500,
    output_nanousd_per_token=10_000,
    max_output_tokens=1_000,
    context_tokens=128_000,
)
PRICED = GRANT.model_copy(
    update={
        "cached_input_nanousd_per_token": 500,
        "reasoning_nanousd_per_token": 12_000,
        "image_nanousd": 2_000_000,
    }
)


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def bound(grant: ModelGrant = GRANT, *, tokens: int = 100, images: int = 0) -> CallBound:
    return bound_call(grant, PromptSize(tokens, tokens // 4, images), None)


def test_cost_is_linear_and_exact() -> None:
    assert cost(GRANT, TokenCount(3, 5), bound()) == 3 * 2_500 + 5 * 10_000


def test_each_kind_of_token_has_its_price() -> None:
    used = TokenCount(10, 8, cached_tokens=4, reasoning_tokens=5)
    assert cost(PRICED, used, bound()) == 6 * 2_500 + 4 * 500 + 3 * 10_000 + 5 * 12_000


def test_a_kind_without_a_price_costs_as_what_it_is_a_part_of() -> None:
    used = TokenCount(10, 8, cached_tokens=4, reasoning_tokens=5)
    assert cost(GRANT, used, bound()) == cost(GRANT, TokenCount(10, 8), bound())


def test_an_image_costs_its_price_and_none_of_its_tokens_besides() -> None:
    with_image = bound(PRICED, images=1)
    text, image = 100, 765  # the text as large as it can be
    used = TokenCount(text + image, 2)
    assert cost(PRICED, used, with_image) == 100 * 2_500 + 2 * 10_000 + 2_000_000


def test_an_image_without_a_price_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no price") as refused:
        bound(GRANT, images=1)
    assert refused.value.error_code == "images_not_priced"


@given(st.text(max_size=2_000), st.integers(1, 5_000))
def test_what_a_call_uses_never_passes_its_bound(text: str, limit: int) -> None:
    held = bound_call(GRANT, prompt_size(user(text), {}, None), limit)
    used = answer({"messages": user(text), "max_tokens": held.output_tokens})
    actual = TokenCount(used.prompt_tokens, used.output_tokens)
    assert cost(GRANT, actual, held) <= held.worst_case_nanousd


PRICE = st.integers(0, 10**6)


@given(
    prices=st.tuples(PRICE, PRICE, st.none() | PRICE, st.none() | PRICE, PRICE),
    prompt=st.integers(1, 5_000),
    images=st.integers(0, 3),
    data=st.data(),
)
def test_no_split_of_a_calls_tokens_costs_more_than_its_worst_case(
    prices: tuple[int, int, int | None, int | None, int],
    prompt: int,
    images: int,
    data: st.DataObject,
) -> None:
    read, written, cached, thought, image = prices
    grant = GRANT.model_copy(
        update={
            "input_nanousd_per_token": read,
            "output_nanousd_per_token": written,
            "cached_input_nanousd_per_token": cached,
            "reasoning_nanousd_per_token": thought,
            "image_nanousd": image,
        }
    )
    held = bound(grant, tokens=prompt, images=images)
    # An image's own tokens come on top of the text's.
    used = data.draw(st.integers(1, prompt + 2_000 * images))
    output = data.draw(st.integers(0, held.output_tokens))
    tokens = TokenCount(
        used, output, data.draw(st.integers(0, used)), data.draw(st.integers(0, output))
    )
    assert cost(grant, tokens, held) <= held.worst_case_nanousd


@given(held=st.integers(0, 10**9), price=st.integers(0, 10**5))
def test_what_a_hold_covers_it_can_pay(held: int, price: int) -> None:
    call = bound(GRANT.model_copy(update={"output_nanousd_per_token": price}))
    covered = call.covered_by(NanoUSD(held))
    assert 0 <= covered <= call.output_tokens
    if held >= call.prompt_nanousd:
        assert call.cost_of(covered) <= held
        assert covered == call.output_tokens or call.cost_of(covered + 1) > held


def test_the_least_hold_covers_the_prompt_and_a_few_words() -> None:
    call = bound()
    assert call.covered_by(call.least_nanousd) == LEAST_OUTPUT_TOKENS
    short = bound_call(GRANT, PromptSize(100, 25), 3)
    assert short.least_nanousd == short.worst_case_nanousd


@pytest.mark.parametrize(("asked", "sent"), [(None, 1_000), (10, 10), (10**9, 1_000)])
def test_the_output_limit_is_always_sent_and_clamped(asked: int | None, sent: int) -> None:
    assert bound_call(GRANT, PromptSize(1, 1), asked).output_tokens == sent


def test_a_call_that_no_cap_could_hold_is_refused() -> None:
    dear = GRANT.model_copy(update={"output_nanousd_per_token": 10**15})
    with pytest.raises(InvalidInput, match="max_completion_tokens"):
        bound(dear)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}, TokenCount(7, 3)),
        (
            {
                "prompt_tokens": 7,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            TokenCount(7, 3, 7, 2),
        ),
        (
            {
                "prompt_tokens": 7,
                "completion_tokens": 3,
                "prompt_tokens_details": None,
                "completion_tokens_details": {"reasoning_tokens": None},
            },
            TokenCount(7, 3),
        ),
    ],
    ids=["plain", "detailed", "null-details"],
)
def test_a_believable_report_is_taken(usage: object, tokens: TokenCount) -> None:
    assert reported_tokens(usage, produced_bytes=12) == tokens


@pytest.mark.fault("F40")
@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        {"prompt_tokens": -1, "completion_tokens": 3},
        {"prompt_tokens": 1, "completion_tokens": -3},
        {"prompt_tokens": 1.5, "completion_tokens": 3},
        {"prompt_tokens": math.nan, "completion_tokens": 3},
        {"prompt_tokens": True, "completion_tokens": 3},
        {"prompt_tokens": "7", "completion_tokens": 3},
        {"prompt_tokens": 1, "completion_tokens": 10**15},
        {"prompt_tokens": 0, "completion_tokens": 3},
        {"prompt_tokens": 1, "completion_tokens": 0},
    ],
)
def test_a_report_that_cannot_be_true_is_not(usage: object) -> None:
    assert reported_tokens(usage, produced_bytes=12) is None


@pytest.mark.fault("F40")
@pytest.mark.parametrize("count", [-1, 8, True, 1.0, math.nan, "1", 10**15])
@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("prompt_tokens_details", "cached_tokens"),
        ("completion_tokens_details", "reasoning_tokens"),
    ],
)
def test_a_part_that_cannot_be_true_spoils_the_report(group: str, name: str, count: object) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 7, group: {name: count}}
    assert reported_tokens(usage, produced_bytes=12) is None
    assert reported_tokens({**usage, group: "none"}, produced_bytes=12) is None


def test_what_is_counted_instead_is_the_most_that_was_produced() -> None:
    call = bound_call(GRANT, PromptSize(50, 12), 10)
    assert counted_tokens(call, 4) == TokenCount(50, 4)
    assert counted_tokens(call, 4_000) == TokenCount(50, 10)
