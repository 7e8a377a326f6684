"""What follows a failed attempt of a model call: ask again, ask the next model, or give up. Pure.

    answered in part        give up: the caller has read what a second answer would contradict
    may have been billed    give up, unless the operator buys repeats: the org would pay for both
    passes by itself        ask again after a pause, as often as policy and budget allow
    nobody was asked        ask the next model of the chain, else give up with the first error
    anything else           ask the next model of the chain, else give up with the first error

Pauses are exponential with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter",
2015), and never shorter than the provider asks for. Repeats spend from a budget that only calls
fill (Finagle's RetryBudget, Envoy's retry_budget), so that an outage is not made worse by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenantplane.core.errors import ProviderUnavailable
from tenantplane.dataplane.models.provider_errors import (
    BROKEN_ANSWER,
    RATE_LIMITED,
    TIMED_OUT,
    UNAVAILABLE,
    UNREACHABLE,
)

FIRST_PAUSE_SECONDS: Final = 0.2
# Somebody waits for the answer: what asks for a longer pause is not waited for.
LONGEST_PAUSE_SECONDS: Final = 2.0
# No attempt begins later than this after the first; each has the provider's own time-outs besides.
WITHIN_SECONDS: Final = 30.0

# The others need a person, or were no answer of the provider's at all.
_PASSES_BY_ITSELF: Final = frozenset(
    {RATE_LIMITED, UNREACHABLE, UNAVAILABLE, TIMED_OUT, BROKEN_ANSWER}
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Of one provider. `retries`: repeats of one model within one call."""

    retries: int
    repeat_billed_calls: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that failed, and what is known then.

    `asked`: the provider was asked; else nobody was, since it is limiting, paused or busy. `tries`: attempts of this model within the call, this one included. `next_model`: whether there
    is another model to ask; `next_elsewhere`: it is another provider's. `budget`: one more call of
    this provider may be made on top of the first ones.
    """

    error: ProviderUnavailable
    asked: bool
    answered: bool
    tries: int
    seconds_left: float
    budget: bool
    next_model: bool
    next_elsewhere: bool


@dataclass(frozen=True, slots=True)
class Retry:
    after_seconds: float


@dataclass(frozen=True, slots=True)
class Fallback:
    pass


@dataclass(frozen=True, slots=True)
class GiveUp:
    pass


Decision = Retry | Fallback | GiveUp


def decide(failed: Failed, policy: RetryPolicy, chance: float) -> Decision:
    """`chance` is the jitter, 0 to 1."""
    if failed.answered or failed.seconds_left <= 0:
        return GiveUp()
    if failed.error.may_have_billed and not policy.repeat_billed_calls:
        return GiveUp()
    if _passes_by_itself(failed, policy):
        pause = pause_seconds(failed.tries, failed.error.told_seconds, chance)
        if pause <= min(LONGEST_PAUSE_SECONDS, failed.seconds_left):
            return Retry(pause)
    # Another provider's model is no further load on the one that is in trouble.
    if failed.next_model and (failed.next_elsewhere or failed.budget):
        return Fallback()
    return GiveUp()


def pause_seconds(tries: int, told_seconds: float | None, chance: float) -> float:
    """The pause after `tries` attempts; what the provider asked for, and a little, where it did."""
    if told_seconds is not None:
        return told_seconds + chance * FIRST_PAUSE_SECONDS
    return chance * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1))


def _passes_by_itself(failed: Failed, policy: RetryPolicy) -> bool:
    return (
        failed.asked
        and failed.budget
        and failed.tries <= policy.retries
        and failed.error.error_code in _PASSES_BY_ITSELF
    )
