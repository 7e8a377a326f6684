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

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tenantplane.core.valkey.answers import Reason, Refused, WindowUse
from tenantplane.core.valkey.requests import WINDOW_MS

OPENAI_PREFIX: Final = "x-ratelimit-"

_REQUESTS: Final = "requests"
_TOKENS: Final = "tokens"


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

    @property
    def policy(self) -> str:
        return f'"{self.level_kind}-{self.measure}"'


def window_fields(windows: Sequence[WindowUse]) -> dict[str, str]:
    """The fields of a call that was admitted; none where no rate is limited."""
    return _fields(_tightest(windows))


def openai_fields(windows: Sequence[WindowUse]) -> dict[str, str]:
    """The same, and once more as OpenAI's API has it."""
    quotas = _tightest(windows)
    return _fields(quotas) | _openai_fields(quotas)


def refusal_fields(refused: Refused) -> dict[str, str]:
    """The fields of a refusal: what refused, and what is left otherwise."""
    quotas = _tightest(refused.windows)
    if (cause := _cause(refused)) is not None:
        quotas[cause.measure] = cause
    return _fields(quotas) | _openai_fields(quotas)


def whole_seconds(milliseconds: int) -> int:
    """Rounded up, since earlier would be too early; 1 at least."""
    return max(1, -(-milliseconds // 1000))


def _tightest(windows: Sequence[WindowUse]) -> dict[str, Quota]:
    """By measure, the quota with the least left; of equal ones the lower limit, then the first."""
    requests = [
        (max(0, use.requests_limit - use.requests), use.requests_limit, number, use)
        for number, use in enumerate(windows)
        if use.requests_limit is not None
    ]
    tokens = [
        (max(0, use.tokens_limit - use.tokens), use.tokens_limit, number, use)
        for number, use in enumerate(windows)
        if use.tokens_limit is not None
    ]
    # Only the two that are told become a Quota.
    found: dict[str, Quota] = {}
    if requests:
        _, limit, _, use = min(requests)
        found[_REQUESTS] = _windowed(
            use.level_kind, _REQUESTS, limit, use.requests, use.requests_reset_ms
        )
    if tokens:
        _, limit, _, use = min(tokens)
        found[_TOKENS] = _windowed(use.level_kind, _TOKENS, limit, use.tokens, use.tokens_reset_ms)
    return found


def _windowed(kind: str, measure: str, limit: int, used: int, reset_ms: int | None) -> Quota:
    return Quota(kind, measure, measure, limit, max(0, limit - used), reset_ms, WINDOW_MS // 1000)


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
    return {
        "ratelimit-policy": ", ".join(map(_policy_item, quotas.values())),
        "ratelimit": ", ".join(map(_limit_item, quotas.values())),
    }


def _policy_item(quota: Quota) -> str:
    unit = "" if quota.unit == _REQUESTS else f';qu="{quota.unit}"'  # the draft's default
    window = "" if quota.window_seconds is None else f";w={quota.window_seconds}"
    return f"{quota.policy};q={quota.limit}{unit}{window}"


def _limit_item(quota: Quota) -> str:
    reset = "" if quota.reset_ms is None else f";t={_seconds(quota.reset_ms)}"
    return f"{quota.policy};r={quota.left}{reset}"


def _openai_fields(quotas: Mapping[str, Quota]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for measure in (_REQUESTS, _TOKENS):
        if (quota := quotas.get(measure)) is not None:
            fields[f"{OPENAI_PREFIX}limit-{measure}"] = str(quota.limit)
            fields[f"{OPENAI_PREFIX}remaining-{measure}"] = str(quota.left)
            fields[f"{OPENAI_PREFIX}reset-{measure}"] = _duration(quota.reset_ms or 0)
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
