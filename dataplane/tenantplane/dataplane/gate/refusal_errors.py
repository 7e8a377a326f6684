"""What the store refused, as the error that a caller gets. Pure."""

from __future__ import annotations

from typing import assert_never

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.errors import (
    Conflict,
    DependencyUnavailable,
    HardCapReached,
    RateLimited,
    SoftCapReached,
    Suspended,
    TenantplaneError,
)
from tenantplane.core.money import format_usd
from tenantplane.core.valkey.answers import Reason, Refused, Stale
from tenantplane.dataplane.gate.rate_fields import refusal_fields, whole_seconds

# Those of one org: their ids begin with it, which a caller need not be told.
_WITHIN_AN_ORG = ("user", "key")


def refusal_error(refused: Refused) -> TenantplaneError:
    """The error that a caller gets: which level, its limit, what is used, and what to do."""
    level = _named(refused)
    match refused.reason:
        case Reason.SUSPENDED:
            return Suspended(
                f"The {level} is suspended.",
                hint="Ask its administrator; nothing runs until it is resumed.",
                level=level,
            )
        case Reason.REQUESTS | Reason.TOKENS:
            return _rate_limited(refused, level)
        case Reason.CONCURRENCY:
            return _too_many_calls(refused, level)
        case Reason.SOFT_CAP:
            hint = "New work starts when the period ends or the cap is raised."
            return _cap_error(SoftCapReached, "soft", refused, hint)
        case Reason.HARD_CAP:
            hint = "Raise the cap, ask for less (max_tokens), or wait for the next period."
            return _cap_error(HardCapReached, "hard", refused, hint)
        case Reason.SETTLED:
            return Conflict(
                "The call was settled already and cannot be held again.",
                hint="Start a new call with a new call number.",
            )
        case never:
            assert_never(never)


def stale_error(stale: Stale, snapshot: Snapshot) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"This replica has version {snapshot.version} of the entitlements of {snapshot.org_id!r}, "
        f"and version {stale.known_version} is in force.",
        hint="Try again: it is being fetched.",
        code="stale_snapshot",
        retry_after_seconds=1,
    )


def _rate_limited(refused: Refused, level: str) -> RateLimited:
    what = "requests" if refused.reason is Reason.REQUESTS else "tokens"
    detail = f"The {level} may use {refused.limit:,} {what} per minute; {refused.used:,} are used."
    if refused.retry_after_ms is None:
        return RateLimited(
            detail,
            hint="The call alone is more than the limit: ask for less (max_tokens), or for more.",
            fields=refusal_fields(refused),
            level=level,
            limit=refused.limit,
            used=refused.used,
        )
    return RateLimited(
        detail,
        hint="Wait as long as Retry-After says, or ask for a higher limit.",
        retry_after_seconds=refused.retry_after_ms / 1000,
        fields=refusal_fields(refused),
        level=level,
        limit=refused.limit,
        used=refused.used,
        retry_after=whole_seconds(refused.retry_after_ms),
    )


def _too_many_calls(refused: Refused, level: str) -> RateLimited:
    return RateLimited(
        f"The {level} may have {refused.limit:,} calls at a time; {refused.used:,} are under way.",
        hint="Try again when one has ended, or ask for a higher limit.",
        code="too_many_calls",
        fields=refusal_fields(refused),
        level=level,
        limit=refused.limit,
        used=refused.used,
    )


def _cap_error(
    kind: type[SoftCapReached] | type[HardCapReached], which: str, refused: Refused, hint: str
) -> SoftCapReached | HardCapReached:
    level = _named(refused)
    spent = f"{format_usd(refused.used)} are spent or held by running calls."
    if refused.level_kind == "run":
        return kind(
            f"The {level} may cost {format_usd(refused.limit)}; {spent}",
            hint="Ask for less at once, or for a higher cap of each run (limits.perRun.costUSD).",
            fields=refusal_fields(refused),
            level=level,
            limit_nanousd=refused.limit,
            used_nanousd=refused.used,
        )
    period = f" per {refused.period}" if refused.period else ""
    # The store says for every cap when its period ends.
    retry_after_ms = refused.retry_after_ms or 0
    return kind(
        f"The {level} has a {which} cap of {format_usd(refused.limit)}{period}; {spent}",
        hint=hint,
        retry_after_seconds=retry_after_ms / 1000,
        fields=refusal_fields(refused),
        level=level,
        limit_nanousd=refused.limit,
        used_nanousd=refused.used,
        retry_after=whole_seconds(retry_after_ms),
    )


def _named(refused: Refused) -> str:
    shown = refused.level_id
    if refused.level_kind in _WITHIN_AN_ORG:
        shown = shown.partition("/")[2]
    return f"{refused.level_kind} {shown!r}"
