"""What is left of the limits, as response fields. Pure.

    ratelimit-policy: "org-requests";q=600;w=60, "user-tokens";q=2000;qu="tokens";w=60
    ratelimit: "org-requests";r=599;t=58, "user-tokens";r=1400;t=58

(draft-ietf-httpapi-ratelimit-headers-10: `q` quota, `qu` its unit, `w` window in seconds, `r` what
is left, `t` seconds until more is.) Of each measure the level with the least left is told: whoever
keeps within that is refused by none. A month's cap is told where it refused, in nano-dollars.

`x-ratelimit-*` are OpenAI's (platform.openai.com/docs/guides/rate-limits, "Rate limits in headers"),
which its clients read; problems.py takes them out of answers of other APIs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from tenantplane.core.valkey.answers import Reason, Refused, WindowUse
from tenantplane.core.valkey.requests import WINDOW_MS

OPENAI_PREFIX: Final = "x-ratelimit-"

_REQUESTS: Final = "requests"
_TOKENS: Final = "tokens"
_WINDOW_SECONDS: Final = WINDOW_MS // 1000
_NO_LIMIT: Final = (math.inf, math.inf)  # what is left, and the limit
_OPENAI_NAMES: Final = {
    measure: tuple(f"{OPENAI_PREFIX}{what}-{measure}" for what in ("limit", "remaining", "reset"))
    for measure in (_REQUESTS, _TOKENS)
}


class Quota(NamedTuple):
    """One limit and what is left of it. `window_seconds` None: a calendar period, or none at all;
    `reset_ms` None: not known, or nothing to wait for."""

    level_kind: str
    measure: str
    unit: str
    limit: int
    left: int
    reset_ms: int | None
    window_seconds: int | None = None


def window_fields(windows: Sequence[WindowUse]) -> dict[str, str]:
    """The fields of a call that was admitted; none where no rate is limited."""
    return _fields(_tightest(windows))


def openai_fields(windows: Sequence[WindowUse]) -> dict[str, str]:
    """The same, and once more as OpenAI's API has it."""
    return _with_openai_fields(_tightest(windows))


def refusal_fields(refused: Refused) -> dict[str, str]:
    """The fields of a refusal: what refused, and what is left otherwise."""
    quotas = _tightest(refused.windows)
    if (cause := _cause(refused)) is not None:
        quotas[cause.measure] = cause
    return _with_openai_fields(quotas)


def whole_seconds(milliseconds: int) -> int:
    """Rounded up, since earlier would be too early; 1 at least."""
    return max(1, -(-milliseconds // 1000))


def _tightest(windows: Sequence[WindowUse]) -> dict[str, Quota]:
    """By measure, the quota with the least left; of equal ones the lower limit, then the first."""
    fewest_requests = fewest_tokens = _NO_LIMIT
    requests = tokens = None
    for use in windows:
        if (limit := use.requests_limit) is not None:
            left = max(0, limit - use.requests), limit
            if left < fewest_requests:
                fewest_requests, requests = left, use
        if (limit := use.tokens_limit) is not None:
            left = max(0, limit - use.tokens), limit
            if left < fewest_tokens:
                fewest_tokens, tokens = left, use
    # Only the two that are told become a Quota.
    found: dict[str, Quota] = {}
    if requests is not None and (limit := requests.requests_limit) is not None:
        kind, reset_ms = requests.level_kind, requests.requests_reset_ms
        found[_REQUESTS] = _windowed(kind, _REQUESTS, limit, requests.requests, reset_ms)
    if tokens is not None and (limit := tokens.tokens_limit) is not None:
        kind, reset_ms = tokens.level_kind, tokens.tokens_reset_ms
        found[_TOKENS] = _windowed(kind, _TOKENS, limit, tokens.tokens, reset_ms)
    return found


def _windowed(kind: str, measure: str, limit: int, used: int, reset_ms: int | None) -> Quota:
    return Quota(kind, measure, measure, limit, max(0, limit - used), reset_ms, _WINDOW_SECONDS)


def _cause(refused: Refused) -> Quota | None:
    kind, limit, left = refused.level_kind, refused.limit, max(0, refused.limit - refused.used)
    match refused.reason:
        case Reason.REQUESTS | Reason.TOKENS:
            measure = _REQUESTS if refused.reason is Reason.REQUESTS else _TOKENS
            return _windowed(kind, measure, limit, refused.used, refused.retry_after_ms)
        case Reason.CONCURRENCY:
            return Quota(kind, "calls", "concurrent-requests", limit, left, None)
        case Reason.SOFT_CAP | Reason.HARD_CAP:
            if kind == "run":  # nothing of it comes back by waiting
                return Quota(kind, "spend", "nanousd", limit, left, None)
            measure = refused.period or "spend"
            return Quota(kind, measure, "nanousd", limit, left, refused.retry_after_ms)
        case Reason.SUSPENDED | Reason.SETTLED:
            return None


def _fields(quotas: Mapping[str, Quota]) -> dict[str, str]:
    if not quotas:
        return {}
    policies, limits = [], []
    for kind, measure, unit, limit, left, reset_ms, window_seconds in quotas.values():
        policies.append(_policy_item(kind, measure, unit, limit, window_seconds))
        reset = "" if reset_ms is None else f";t={_seconds(reset_ms)}"
        limits.append(f'"{kind}-{measure}";r={left}{reset}')
    return {"ratelimit-policy": ", ".join(policies), "ratelimit": ", ".join(limits)}


@lru_cache(maxsize=1024)  # limits are few, and stay
def _policy_item(kind: str, measure: str, unit: str, limit: int, window_seconds: int | None) -> str:
    quota_unit = "" if unit == _REQUESTS else f';qu="{unit}"'  # the draft's default
    window = "" if window_seconds is None else f";w={window_seconds}"
    return f'"{kind}-{measure}";q={limit}{quota_unit}{window}'


def _with_openai_fields(quotas: Mapping[str, Quota]) -> dict[str, str]:
    fields = _fields(quotas)
    for measure, (limit, remaining, reset) in _OPENAI_NAMES.items():
        if (quota := quotas.get(measure)) is not None:
            fields[limit] = str(quota.limit)
            fields[remaining] = str(quota.left)
            fields[reset] = _duration(quota.reset_ms or 0)
    return fields


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)


def _duration(milliseconds: int) -> str:
    """As OpenAI has it: "120ms", "1s", "6m0s"; whole seconds from one on, rounded up."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, seconds = divmod(_seconds(milliseconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
