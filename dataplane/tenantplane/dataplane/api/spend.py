"""What the caller's org spends and may spend, level by level: no call is made, nothing is counted.

GET /tp/v1/spend    settled and held in the current days and months
GET /tp/v1/limits   the limits in force, and what is left of their windows
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from tenantplane.core.apis.snapshot import LevelLimits, RunBounds
from tenantplane.core.money import format_usd
from tenantplane.core.valkey.answers import PeriodSpend, Spend, WindowUse
from tenantplane.dataplane.gate.admission import caller_levels
from tenantplane.dataplane.gate.request import RequestTenant, request_tenant
from tenantplane.dataplane.ledger.calls import LevelSpend
from tenantplane.dataplane.ledger.meter import Meter


class Amount(BaseModel):
    """One amount, exact and for people: 1 USD is 1,000,000,000 nano-dollars."""

    nanousd: int
    usd: str

    @classmethod
    def of(cls, nanousd: int) -> Amount:
        return cls(nanousd=nanousd, usd=format_usd(nanousd))


class LevelSpendView(BaseModel):
    """One level (umbrella, org, and the caller's user and key) in its current period. A cap of null
    does not limit; raises in force are in it."""

    level_kind: str
    level_id: str
    period: str
    period_id: str
    settled: Amount
    held: Amount
    soft_cap: Amount | None
    hard_cap: Amount | None


class SpendView(BaseModel):
    org_id: str
    levels: list[LevelSpendView]


class WindowView(BaseModel):
    """A limit of a sliding minute; `reset_ms` until the oldest of what is counted leaves it."""

    limit: int
    used: int
    left: int
    reset_ms: int


class CallsView(BaseModel):
    """A limit of calls at a time."""

    limit: int
    open: int


class LevelLimitsView(BaseModel):
    """Limits of one level; null does not limit. `shadow`: they are reported, and refuse nothing."""

    level_kind: str
    level_id: str
    shadow: bool
    requests: WindowView | None
    tokens: WindowView | None
    calls: CallsView | None
    caps: list[LevelSpendView]


class RunBoundsView(BaseModel):
    steps: int | None
    seconds: int | None
    cost: Amount | None


class LimitsView(BaseModel):
    org_id: str
    levels: list[LevelLimitsView]
    run: RunBoundsView


def spend_routes(meter: Meter) -> APIRouter:
    router = APIRouter()

    @router.get("/tp/v1/spend")
    async def spend(request: Request) -> SpendView:
        tenant = request_tenant(request.scope)
        levels = await meter.spend(tenant.snapshot, tenant.context)
        return SpendView(org_id=tenant.context.org_id, levels=[_view(level) for level in levels])

    @router.get("/tp/v1/limits")
    async def limits(request: Request) -> LimitsView:
        tenant = request_tenant(request.scope)
        return limits_view(tenant, await meter.use(tenant.snapshot, tenant.context))

    return router


def limits_view(tenant: RequestTenant, use: Spend) -> LimitsView:
    """The limits of the snapshot, with what the store says of their use."""
    levels = [
        _limits_view((kind, level_id), limits, use)
        for kind, level_id, limits in caller_levels(tenant.snapshot, tenant.context)
    ]
    bounds = tenant.snapshot.per_run or RunBounds()
    run = RunBoundsView(steps=bounds.steps, seconds=bounds.seconds, cost=_cap(bounds.cost_nanousd))
    return LimitsView(org_id=tenant.context.org_id, levels=levels, run=run)


def _limits_view(level: tuple[str, str], limits: LevelLimits, use: Spend) -> LevelLimitsView:
    window = next((w for w in use.windows if (w.level_kind, w.level_id) == level), None)
    calls = next((c for c in use.calls if (c.level_kind, c.level_id) == level), None)
    return LevelLimitsView(
        level_kind=level[0],
        level_id=level[1],
        shadow=limits.shadow,
        requests=_requests(window),
        tokens=_tokens(window),
        calls=None if calls is None else CallsView(limit=calls.calls_limit, open=calls.calls),
        caps=[
            _view(period)
            for period in use.periods
            if (period.level_kind, period.level_id) == level
            and (period.soft_cap_nanousd, period.hard_cap_nanousd) != (None, None)
        ],
    )


def _requests(use: WindowUse | None) -> WindowView | None:
    if use is None or use.requests_limit is None:
        return None
    return _window(use.requests_limit, use.requests, use.requests_reset_ms)


def _tokens(use: WindowUse | None) -> WindowView | None:
    if use is None or use.tokens_limit is None:
        return None
    return _window(use.tokens_limit, use.tokens, use.tokens_reset_ms)


def _window(limit: int, used: int, reset_ms: int) -> WindowView:
    return WindowView(limit=limit, used=used, left=max(0, limit - used), reset_ms=reset_ms)


def _view(level: LevelSpend | PeriodSpend) -> LevelSpendView:
    return LevelSpendView(
        level_kind=level.level_kind,
        level_id=level.level_id,
        period=level.period,
        period_id=level.period_id,
        settled=Amount.of(level.settled_nanousd),
        held=Amount.of(level.held_nanousd),
        soft_cap=_cap(level.soft_cap_nanousd),
        hard_cap=_cap(level.hard_cap_nanousd),
    )


def _cap(nanousd: int | None) -> Amount | None:
    return None if nanousd is None else Amount.of(nanousd)
