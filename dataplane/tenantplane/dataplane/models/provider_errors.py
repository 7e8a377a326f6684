"""What can go wrong with a model provider, and what callers are told of it. Pure.

A provider's own words reach a caller where it refuses the request (they say what to change), and
never else: they may quote a part of the plane's key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import InvalidInput, ProviderUnavailable

RATE_LIMITED: Final = "provider_rate_limited"  # 429
UNREACHABLE: Final = "provider_unreachable"  # no connection: nothing was sent
UNAVAILABLE: Final = "provider_unavailable"  # an error of its own, or paused here after many
MISCONFIGURED: Final = "provider_misconfigured"
TIMED_OUT: Final = "provider_timeout"
BROKEN_ANSWER: Final = "provider_broken_answer"
BUSY: Final = "provider_busy"  # no turn in this replica's pool
REFUSED: Final = "provider_refused"  # the request itself, as InvalidInput

_DEFAULT_RETRY_AFTER_SECONDS: Final = 5.0
# Nobody is told to wait longer, and no model is left alone longer, by one header of a provider.
_LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0


def may_have_billed(error: Exception) -> bool:
    """Whether the provider may charge for a call that ended in `error`."""
    if isinstance(error, ProviderUnavailable):
        return error.may_have_billed
    return not isinstance(error, InvalidInput)


def refusal(
    grant: ModelGrant,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    bills_failed_calls: bool,
) -> InvalidInput | ProviderUnavailable:
    """The error for an answer that is not 200; `headers` find their names in any case."""
    told = told_seconds(headers)
    match status:
        case 400 | 413 | 422:
            return InvalidInput(
                f"The provider of {grant.name!r} refuses the request: {_provider_message(body)}",
                code=REFUSED,
            )
        case 429:
            return _unavailable(grant, RATE_LIMITED, "is limiting our rate", told=told)
        case 401 | 403 | 404:
            return _unavailable(grant, MISCONFIGURED, "refuses this plane")
        case _ if status < 400:  # redirects are not followed: the key would go along
            return _unavailable(grant, MISCONFIGURED, "refuses this plane")
        case _:
            return _unavailable(
                grant, UNAVAILABLE, f"answered {status}", told=told, billed=bills_failed_calls
            )


def unreachable(grant: ModelGrant) -> ProviderUnavailable:
    return _unavailable(grant, UNREACHABLE, "cannot be reached")


def timed_out(grant: ModelGrant) -> ProviderUnavailable:
    return _unavailable(grant, TIMED_OUT, "did not answer in time", billed=True)


def broken_answer(grant: ModelGrant, what: str) -> ProviderUnavailable:
    """The error for an answer that came and cannot be used: it may be billed."""
    return _unavailable(grant, BROKEN_ANSWER, f"sent {what}", billed=True)


def lacking(grant: ModelGrant) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"Model {grant.name!r} needs provider {grant.provider!r}, which this plane lacks.",
        hint="The platform's operator configures it: TENANTPLANE_PROVIDERS.",
        code=MISCONFIGURED,
    )


def limited(grant: ModelGrant, seconds: float) -> ProviderUnavailable:
    """It said 429 a moment ago, and when to come back: it is not asked before."""
    return _unavailable(grant, RATE_LIMITED, "is limiting our rate", told=seconds)


def paused(grant: ModelGrant, seconds: float) -> ProviderUnavailable:
    """Too many calls failed of late: it is left alone for so long."""
    what = "failed too often of late and is left alone for a moment"
    return _unavailable(grant, UNAVAILABLE, what, told=seconds)


def busy() -> ProviderUnavailable:
    return ProviderUnavailable(
        "All turns at the model's provider are taken.",
        hint="Send fewer calls at once, or try again.",
        code=BUSY,
        retry_after_seconds=1,
    )


def told_seconds(headers: Mapping[str, str]) -> float | None:
    """How long a provider asks to wait; None where it does not say, or nothing sensible.

    `Retry-After` is seconds or a date (RFC 9110 section 10.2.3), whose distance is taken from the
    answer's own `Date`: no clock of ours comes into it. OpenAI also sends `retry-after-ms`.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    said = headers.get("retry-after")
    seconds = milliseconds / 1000 if milliseconds is not None else _number(said)
    if seconds is None and said is not None:
        seconds = _seconds_between(headers.get("date"), said)
    if seconds is None or not 0 <= seconds <= _LONGEST_RETRY_AFTER_SECONDS:
        return None
    return seconds


def _unavailable(
    grant: ModelGrant, code: str, what: str, *, told: float | None = None, billed: bool = False
) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"The provider of model {grant.name!r} {what}.",
        code=code,
        retry_after_seconds=_DEFAULT_RETRY_AFTER_SECONDS if told is None else told,
        may_have_billed=billed,
        told_seconds=told,
    )


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _seconds_between(date: str | None, then: str) -> float | None:
    if date is None:
        return None
    try:
        return (parsedate_to_datetime(then) - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError):  # no date, or one with and one without a zone
        return None


def _provider_message(body: bytes) -> str:
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return "no reason given."
    return str(message)[:500]
