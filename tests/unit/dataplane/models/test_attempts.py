from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.errors import ProviderUnavailable
from tenantplane.dataplane.models.attempts import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Failed,
    Fallback,
    GiveUp,
    Retry,
    RetryPolicy,
    decide,
    pause_seconds,
)
from tenantplane.dataplane.models.provider_errors import (
    BROKEN_ANSWER,
    BUSY,
    MISCONFIGURED,
    RATE_LIMITED,
    TIMED_OUT,
    UNAVAILABLE,
    UNREACHABLE,
)

POLICY = RetryPolicy(retries=2, repeat_billed_calls=False)
BUYS_REPEATS = RetryPolicy(retries=2, repeat_billed_calls=True)


def failed(code: str = UNAVAILABLE, **changed: Any) -> Failed:
    error = ProviderUnavailable(
        "It is away.",
        code=code,
        may_have_billed=changed.pop("billed", False),
        told_seconds=changed.pop("told", None),
    )
    facts: dict[str, Any] = {
        "asked": True,
        "answered": False,
        "tries": 1,
        "seconds_left": 30.0,
        "budget": True,
        "next_model": True,
        "next_elsewhere": True,
    }
    return Failed(error=error, **(facts | changed))


@pytest.mark.parametrize("code", [UNAVAILABLE, UNREACHABLE, RATE_LIMITED])
def test_what_passes_by_itself_is_asked_again(code: str) -> None:
    assert decide(failed(code), POLICY, 0.5) == Retry(FIRST_PAUSE_SECONDS / 2)


@pytest.mark.parametrize("code", [MISCONFIGURED, BUSY])
def test_what_does_not_pass_falls_back_at_once(code: str) -> None:
    assert decide(failed(code), POLICY, 0.5) == Fallback()
    assert decide(failed(code, next_model=False), POLICY, 0.5) == GiveUp()


def test_after_the_last_repeat_the_next_model_is_asked() -> None:
    assert decide(failed(tries=3), POLICY, 0.5) == Fallback()
    assert decide(failed(tries=3, next_model=False), POLICY, 0.5) == GiveUp()


def test_who_was_not_asked_is_not_asked_again() -> None:
    assert decide(failed(asked=False), POLICY, 0.5) == Fallback()
    assert decide(failed(asked=False, next_model=False), POLICY, 0.5) == GiveUp()


def test_without_a_budget_only_another_provider_is_asked() -> None:
    assert decide(failed(budget=False), POLICY, 0.5) == Fallback()
    assert decide(failed(budget=False, next_elsewhere=False), POLICY, 0.5) == GiveUp()


def test_what_may_be_billed_is_repeated_only_where_that_is_bought() -> None:
    for code in (TIMED_OUT, BROKEN_ANSWER, UNAVAILABLE):
        assert decide(failed(code, billed=True), POLICY, 0.5) == GiveUp()
        assert isinstance(decide(failed(code, billed=True), BUYS_REPEATS, 0.5), Retry)


def test_a_pause_longer_than_somebody_waits_is_no_pause() -> None:
    assert decide(failed(RATE_LIMITED, told=7.0), POLICY, 0.5) == Fallback()
    assert decide(failed(RATE_LIMITED, told=7.0, next_model=False), POLICY, 0.5) == GiveUp()
    assert decide(failed(RATE_LIMITED, told=1.0), POLICY, 0.0) == Retry(1.0)
    # With half a second left, a pause of one second is too long.
    assert decide(failed(RATE_LIMITED, told=1.0, seconds_left=0.5), POLICY, 0.0) == Fallback()


anything = st.builds(
    failed,
    st.sampled_from([UNAVAILABLE, UNREACHABLE, RATE_LIMITED, TIMED_OUT, BROKEN_ANSWER, BUSY]),
    billed=st.booleans(),
    told=st.none() | st.floats(0, 3600),
    asked=st.booleans(),
    answered=st.booleans(),
    tries=st.integers(1, 10),
    seconds_left=st.floats(-10, 30),
    budget=st.booleans(),
    next_model=st.booleans(),
    next_elsewhere=st.booleans(),
)
policies = st.builds(RetryPolicy, st.integers(0, 5), st.booleans())
chances = st.floats(0, 1)


@given(anything, policies, chances)
def test_what_never_happens(seen: Failed, policy: RetryPolicy, chance: float) -> None:
    decision = decide(seen, policy, chance)
    if seen.answered or seen.seconds_left <= 0:
        assert decision == GiveUp()
    if seen.error.may_have_billed and not policy.repeat_billed_calls:
        assert decision == GiveUp()
    if isinstance(decision, Retry):
        assert seen.asked
        assert seen.budget
        assert seen.tries <= policy.retries
        assert (seen.error.told_seconds or 0.0) <= decision.after_seconds
        assert decision.after_seconds <= min(LONGEST_PAUSE_SECONDS, seen.seconds_left)
    if decision == Fallback():
        assert seen.next_model
        assert seen.next_elsewhere or seen.budget


@given(st.integers(1, 50), chances)
def test_pauses_grow_and_are_bounded(tries: int, chance: float) -> None:
    assert 0 <= pause_seconds(tries, None, chance) <= LONGEST_PAUSE_SECONDS
    assert pause_seconds(tries, None, chance) <= pause_seconds(tries + 1, None, chance)
