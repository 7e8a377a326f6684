"""GET /tp/v1/spend: what the caller's org has spent, level by level."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from tenantplane.core.money import format_usd
from tenantplane.dataplane.gate.request import request_tenant
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
    """One level (umbrella, org) in its current period. A cap of null does not limit."""

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


def spend_routes(meter: Meter) -> APIRouter:
    router = APIRouter()

    @router.get("/tp/v1/spend")
    async def spend(request: Request) -> SpendView:
        tenant = request_tenant(request.scope)
        levels = await meter.spend(tenant.snapshot)
        return SpendView(org_id=tenant.context.org_id, levels=[_view(level) for level in levels])

    return router


def _view(level: LevelSpend) -> LevelSpendView:
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
