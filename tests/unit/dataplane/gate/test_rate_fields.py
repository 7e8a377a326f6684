"""Rate limit fields: the tightest level of each measure, in the draft's syntax and in OpenAI's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.valkey.answers import Reason, Refused, WindowUse
from tenantplane.dataplane.gate.rate_fields import openai_fields, refusal_fields, window_fields

ORG = WindowUse("org", "acme", 100, 1_000, 600, 20_000, 30_001, 60_000)
USER = WindowUse("user", "acme/u", 5, 900, 10, None, 500, 900)


def test_the_level_with_the_least_left_is_told_of_each_measure() -> None:
    assert window_fields((ORG, USER)) == {
        "ratelimit-policy": '"user-requests";q=10;w=60, "org-tokens";q=20000;qu="tokens";w=60',
        "ratelimit": '"user-requests";r=5;t=1, "org-tokens";r=19000;t=60',
    }
    assert openai_fields((ORG, USER)) == window_fields((ORG, USER)) | {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "500ms",
        "x-ratelimit-limit-tokens": "20000",
        "x-ratelimit-remaining-tokens": "19000",
        "x-ratelimit-reset-tokens": "1m0s",
    }


_uses = st.builds(
    WindowUse,
    st.sampled_from(["org", "user"]),
    st.just("id"),
    st.integers(0, 12),
    st.integers(0, 12),
    st.none() | st.integers(1, 10),
    st.none() | st.integers(1, 10),
    st.integers(0, 60_000),
    st.integers(0, 60_000),
)


@given(st.lists(_uses, max_size=5))
def test_of_equal_ones_the_lower_limit_is_told_then_the_first(uses: list[WindowUse]) -> None:
    limited = [use for use in uses if use.requests_limit is not None]
    told = openai_fields(tuple(uses)).get("x-ratelimit-limit-requests")
    if not limited:
        assert told is None
        return

    def rank(use: WindowUse) -> tuple[int, int]:
        assert use.requests_limit is not None
        return max(0, use.requests_limit - use.requests), use.requests_limit

    least = min(limited, key=rank)  # the first of equals
    assert told == str(least.requests_limit)
    assert (
        f'"{least.level_kind}-requests";q={least.requests_limit};w=60'
        in window_fields(tuple(uses))["ratelimit-policy"]
    )


def test_where_no_rate_is_limited_there_are_no_fields() -> None:
    unlimited = WindowUse("org", "acme", 1, 1)
    assert window_fields(()) == window_fields((unlimited,)) == openai_fields((unlimited,)) == {}


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (59_001, "1m0s"),
        (360_000, "6m0s"),
        (3_661_000, "1h1m1s"),
    ],
)
def test_resets_are_written_as_openai_writes_them(milliseconds: int, text: str) -> None:
    use = WindowUse("org", "acme", 1, 0, 10, None, milliseconds)
    assert openai_fields((use,))["x-ratelimit-reset-requests"] == text


@given(used=st.integers(0, 10**12), limit=st.integers(1, 10**12), reset_ms=st.integers(0, 10**6))
def test_what_is_left_is_never_below_zero_and_the_syntax_is_the_drafts(
    used: int, limit: int, reset_ms: int
) -> None:
    fields = window_fields((WindowUse("org", "acme", used, 0, limit, None, reset_ms),))
    assert re.fullmatch(r'"org-requests";r=\d+;t=\d+', fields["ratelimit"])
    assert re.fullmatch(r'"org-requests";q=\d+;w=60', fields["ratelimit-policy"])
    assert f";r={max(0, limit - used)};" in fields["ratelimit"]


def test_a_refusal_tells_what_refused_in_the_place_of_its_measure() -> None:
    refused = Refused(Reason.TOKENS, "user", "acme/u", 50, 49, 1_500, windows=(ORG, USER))
    fields = refusal_fields(refused)
    assert fields["ratelimit"] == '"user-requests";r=5;t=1, "user-tokens";r=1;t=2'
    assert fields["x-ratelimit-remaining-tokens"] == "1"
    assert fields["x-ratelimit-remaining-requests"] == "5"


@pytest.mark.parametrize("reason", [Reason.SOFT_CAP, Reason.HARD_CAP])
def test_a_cap_is_told_beside_what_is_left_of_the_rates(reason: Reason) -> None:
    refused = Refused(reason, "org", "acme", 1_000, 1_200, 86_400_000, "month", windows=(USER,))
    assert refusal_fields(refused) == {
        "ratelimit-policy": '"user-requests";q=10;w=60, "org-month";q=1000;qu="nanousd"',
        "ratelimit": '"user-requests";r=5;t=1, "org-month";r=0;t=86400',
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "500ms",
    }


@pytest.mark.parametrize("reason", [Reason.SUSPENDED, Reason.SETTLED])
def test_what_is_no_limit_has_no_fields(reason: Reason) -> None:
    assert refusal_fields(Refused(reason, "org", "acme", 0, 0, None)) == {}
