from __future__ import annotations

import pytest

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import InvalidInput, NotFound, ProviderUnavailable
from tenantplane.dataplane.models.provider_errors import (
    broken_answer,
    may_have_billed,
    refusal,
    timed_out,
    told_seconds,
    unreachable,
)

GRANT = ModelGrant(
    name="assistant-1",
    provider="openai",
    upstream_model="small",
    input_nanousd_per_token=1,
    output_nanousd_per_token=1,
    max_output_tokens=1,
    context_tokens=1,
)
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3601"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "1"}, 1.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:30 GMT", "date": DATE}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "today"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 -0000", "date": DATE}, None),
    ],
)
def test_how_long_a_provider_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert told_seconds(headers) == seconds


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, "provider_rate_limited"),
        (500, "provider_unavailable"),
        (503, "provider_unavailable"),
        (409, "provider_unavailable"),
        (401, "provider_misconfigured"),
        (403, "provider_misconfigured"),
        (404, "provider_misconfigured"),
        (302, "provider_misconfigured"),
    ],
)
@pytest.mark.parametrize("bills", [False, True])
def test_what_a_status_means_and_may_cost(status: int, code: str, bills: bool) -> None:
    body = b'{"error": {"message": "your key sk-123 is bad"}}'
    error = refusal(GRANT, status, {}, body, bills_failed_calls=bills)
    assert isinstance(error, ProviderUnavailable)
    assert error.error_code == code
    assert error.told_seconds is None
    assert error.retry_after_seconds == 5
    assert may_have_billed(error) == (bills and code == "provider_unavailable")
    assert "sk-123" not in str(error)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_the_callers_and_says_why(status: int) -> None:
    body = b'{"error": {"message": "temperature is too high"}}'
    error = refusal(GRANT, status, {}, body, bills_failed_calls=True)
    assert isinstance(error, InvalidInput)
    assert "temperature is too high" in str(error)
    assert not may_have_billed(error)


def test_only_what_was_sent_may_be_billed() -> None:
    assert not may_have_billed(unreachable(GRANT))
    assert may_have_billed(timed_out(GRANT))
    assert may_have_billed(broken_answer(GRANT, "nonsense"))
    # An error that is not known here says nothing about the provider.
    assert may_have_billed(NotFound("x"))
