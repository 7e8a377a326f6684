from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import InvalidInput
from tenantplane.dataplane.models.prices import (
    TokenCount,
    bound_call,
    cost,
    counted_tokens,
    reported_tokens,
)
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


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_cost_is_linear_and_exact() -> None:
    assert cost(GRANT, TokenCount(3, 5)) == 3 * 2_500 + 5 * 10_000


@given(st.text(max_size=2_000), st.integers(1, 5_000))
def test_what_a_call_uses_never_passes_its_bound(text: str, limit: int) -> None:
    bound = bound_call(GRANT, user(text), {}, limit)
    used = answer({"messages": user(text), "max_tokens": bound.output_tokens})
    actual = TokenCount(used.prompt_tokens, used.output_tokens)
    assert cost(GRANT, actual) <= bound.worst_case_nanousd


def test_a_prompt_is_bounded_by_its_bytes_not_its_characters() -> None:
    one_byte = bound_call(GRANT, user("a" * 100), {}, 1).prompt_tokens
    four_bytes = bound_call(GRANT, user("𝔞" * 100), {}, 1).prompt_tokens
    assert four_bytes - one_byte == 300


def test_tools_count_towards_the_prompt() -> None:
    tools = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]
    assert (
        bound_call(GRANT, user("a"), {"tools": tools}, 1).prompt_tokens
        > bound_call(GRANT, user("a"), {}, 1).prompt_tokens + 1024
    )


@pytest.mark.parametrize(("asked", "sent"), [(None, 1_000), (10, 10), (10**9, 1_000)])
def test_the_output_limit_is_always_sent_and_clamped(asked: int | None, sent: int) -> None:
    assert bound_call(GRANT, user("a"), {}, asked).output_tokens == sent


def test_a_call_that_no_cap_could_hold_is_refused() -> None:
    dear = GRANT.model_copy(update={"output_nanousd_per_token": 10**15})
    with pytest.raises(InvalidInput, match="max_completion_tokens"):
        bound_call(dear, user("a"), {}, None)


def test_a_believable_report_is_taken() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert reported_tokens(usage, produced_bytes=12) == TokenCount(7, 3)


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


def test_what_is_counted_instead_is_the_most_that_was_produced() -> None:
    bound = bound_call(GRANT, user("a"), {}, 10)
    assert counted_tokens(bound, 4) == TokenCount(bound.prompt_tokens, 4)
    assert counted_tokens(bound, 4_000) == TokenCount(bound.prompt_tokens, 10)
