"""What the store refused, as callers are told."""

from __future__ import annotations

import pytest

from tenantplane.core.errors import (
    Conflict,
    HardCapReached,
    RateLimited,
    SoftCapReached,
    Suspended,
)
from tenantplane.core.valkey.answers import Reason, Refused
from tenantplane.dataplane.gate.refusal_errors import refusal_error


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (Reason.SUSPENDED, Suspended),
        (Reason.REQUESTS, RateLimited),
        (Reason.TOKENS, RateLimited),
        (Reason.CONCURRENCY, RateLimited),
        (Reason.SOFT_CAP, SoftCapReached),
        (Reason.HARD_CAP, HardCapReached),
        (Reason.SETTLED, Conflict),
    ],
)
def test_each_refusal_has_its_error(reason: Reason, error: type[Exception]) -> None:
    refused = Refused(reason, "org", "acme", 10, 9, 1500, "month")
    assert type(refusal_error(refused)) is error


def test_a_cap_error_says_level_limit_use_and_when() -> None:
    refused = Refused(
        Reason.HARD_CAP, "org", "acme", 1_000_000_000_000, 999_500_000_000, 86_400_001, "month"
    )
    problem = refusal_error(refused).problem()
    assert problem["detail"] == (
        "The org 'acme' has a hard cap of $1,000.00 per month; "
        "$999.50 are spent or held by running calls."
    )
    assert problem["level"] == "org 'acme'"
    assert problem["limit_nanousd"] == 1_000_000_000_000
    assert problem["used_nanousd"] == 999_500_000_000
    assert problem["retry_after"] == 86_401


def test_a_call_that_alone_is_over_the_limit_is_not_told_to_wait() -> None:
    error = refusal_error(Refused(Reason.TOKENS, "org", "acme", 10, 0, None))
    assert "retry-after" not in error.headers()
    assert "alone is more than the limit" in str(error)


@pytest.mark.req("R36")
def test_a_user_is_named_without_its_org() -> None:
    refused = Refused(Reason.REQUESTS, "user", "acme/auth0|17", 10, 10, 1500)
    assert refusal_error(refused).detail.startswith("The user 'auth0|17' may use 10 requests")


def test_too_many_calls_at_a_time_have_a_code_of_their_own() -> None:
    error = refusal_error(Refused(Reason.CONCURRENCY, "org", "acme", 4, 4, None))
    assert (error.status, error.error_code) == (429, "too_many_calls")
    assert error.headers() == {
        "ratelimit-policy": '"org-calls";q=4;qu="concurrent-requests"',
        "ratelimit": '"org-calls";r=0',
    }


def test_the_cap_of_a_run_is_not_waited_for() -> None:
    error = refusal_error(Refused(Reason.HARD_CAP, "run", "0192", 5_000_000, 4_000_000, 99, "run"))
    assert (error.status, error.error_code) == (402, "hard_cap_reached")
    assert error.detail.startswith("The run '0192' may cost $0.005;")
    assert error.headers() == {
        "ratelimit-policy": '"run-spend";q=5000000;qu="nanousd"',
        "ratelimit": '"run-spend";r=1000000',
    }
