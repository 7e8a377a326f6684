"""What a plane needs to serve one org, as a pure function of the org's line from its root."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from tenantplane.controlplane.planes.offers import model_grants, tool_prices
from tenantplane.core.apis.limits import Caps, Limits, RunLimits
from tenantplane.core.apis.plan import Prices
from tenantplane.core.apis.snapshot import (
    ApiKeyGrant,
    CapRaise,
    Level,
    LevelLimits,
    PromptGrant,
    RoleBound,
    RunBounds,
    Snapshot,
)
from tenantplane.core.money import parse_usd

Status = Literal["active", "suspended", "deleted"]

_UNVERSIONED = {"version", "issued_at"}
_NO_TIME = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class OrgTerms:
    """One org of a line: what it is, what it may use, and its limits over its plan's."""

    org_id: str
    root_org_id: str
    status: Status
    plane: str | None
    region: str
    plan: str
    price_book_version: int
    time_zone: str
    max_offline_seconds: int
    token_epoch: int
    limits: Limits
    raises: tuple[CapRaise, ...] = ()
    excess_acknowledged_until: datetime | None = None
    tools: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    data_sources: tuple[str, ...] = ()
    prompts: tuple[PromptGrant, ...] = ()
    role_bound: tuple[RoleBound, ...] = ()
    prices: Prices = field(default_factory=Prices)


def build(line: Sequence[OrgTerms], keys: Sequence[ApiKeyGrant]) -> Snapshot:
    """The snapshot of the last org of `line` (root first), as version 1 of no time: whoever signs
    it gives it both. The org has a plane."""
    org = line[-1]
    assert org.plane is not None
    status = _effective_status(line)
    if status == "deleted":
        org, keys = _granting_nothing(org), ()
    limits = org.limits
    return Snapshot(
        org_id=org.org_id,
        root_org_id=org.root_org_id,
        version=1,
        issued_at=_NO_TIME,
        status=status,
        plane=org.plane,
        region=org.region,
        plan=org.plan,
        token_epoch=org.token_epoch,
        max_offline_seconds=org.max_offline_seconds,
        price_book_version=org.price_book_version,
        levels=tuple(_level(member) for member in line),
        per_user=_caps(limits.per_user) if limits.per_user else None,
        per_key=_caps(limits.per_key) if limits.per_key else None,
        per_run=_run_bounds(limits.per_run) if limits.per_run else None,
        on_provider_excess=limits.on_provider_excess or "halt",
        excess_acknowledged_until=org.excess_acknowledged_until,
        tools=org.tools,
        models=model_grants(org.models, org.prices.models),
        data_sources=org.data_sources,
        prompts=org.prompts,
        role_bound=org.role_bound,
        tool_nanousd=tool_prices(org.tools, org.prices.tools),
        api_keys=tuple(sorted(keys, key=lambda key: key.key_id)),
    )


def digest(snapshot: Snapshot) -> bytes:
    """SHA-256 of what the snapshot says, whatever its version: equal where nothing changed."""
    content = snapshot.model_dump(mode="json", exclude=_UNVERSIONED)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()


def versioned(snapshot: Snapshot, version: int, issued_at: datetime) -> dict[str, Any]:
    """The payload to sign."""
    return snapshot.model_copy(update={"version": version, "issued_at": issued_at}).model_dump(
        mode="json"
    )


def _granting_nothing(org: OrgTerms) -> OrgTerms:
    return replace(org, tools=(), models=(), data_sources=(), prompts=(), role_bound=())


def _effective_status(line: Sequence[OrgTerms]) -> Status:
    # An umbrella that is suspended stops its whole tree, on every plane, by each org's snapshot.
    own = line[-1].status
    if own == "active" and any(member.status != "active" for member in line):
        return "suspended"
    return own


def _level(org: OrgTerms) -> Level:
    return Level(
        # An org is one level in its own snapshot and in those of its children. If its kind said
        # "umbrella" there and "org" here, its money would be counted in two accounts.
        kind="org",
        id=org.org_id,
        time_zone=org.time_zone,
        suspended=org.status != "active",
        raises=org.raises,
        **_caps(org.limits).model_dump(),
    )


def _caps(caps: Caps) -> LevelLimits:
    return LevelLimits(
        requests_per_minute=caps.requests_per_minute,
        tokens_per_minute=caps.tokens_per_minute,
        concurrent_calls=caps.concurrent_calls,
        soft_cap_nanousd=_nano(caps.soft_cap_usd),
        hard_cap_nanousd=_nano(caps.hard_cap_usd),
        day_soft_cap_nanousd=_nano(caps.soft_cap_usd_per_day),
        day_hard_cap_nanousd=_nano(caps.hard_cap_usd_per_day),
        shadow=bool(caps.shadow),
    )


def _run_bounds(limits: RunLimits) -> RunBounds:
    return RunBounds(
        steps=limits.steps, seconds=limits.seconds, cost_nanousd=_nano(limits.cost_usd)
    )


def _nano(usd: str | None) -> int | None:
    return None if usd is None else parse_usd(usd)
