"""Raises, top-ups and acknowledged excesses: in force with the next snapshots, and recorded."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.registry import admin_events
from tenantplane.controlplane.registry import repository as registry
from tenantplane.controlplane.registry.limits import repository
from tenantplane.controlplane.registry.limits.decisions import Raise, decide_raise, state_at
from tenantplane.controlplane.registry.limits.repository import RaiseRow
from tenantplane.controlplane.registry.locks import hold_org
from tenantplane.controlplane.registry.schemas import OrgRow
from tenantplane.controlplane.registry.signing import Signatory
from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.raises import ExcessAcknowledged, RaiseRequest, RaiseView
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.errors import NotFound
from tenantplane.core.ids import new_id
from tenantplane.core.money import format_usd


class OrgLimits:
    """What people change about an org's limits without touching its manifest."""

    def __init__(self, signatory: Signatory, clock: DatabaseClock) -> None:
        self._signatory = signatory
        self._clock = clock

    async def raise_caps(
        self, cursor: Cursor, org_id: str, request: RaiseRequest, actor: str
    ) -> RaiseView:
        """Raises NotFound, Unprocessable (`no_cap_to_raise`, `cap_too_high`, bad times), Conflict
        (`too_many_raises`)."""
        org = await hold_org(cursor, org_id)
        standing = (await repository.standing(cursor, [org_id])).get(org_id, ())
        wanted = decide_raise(
            request,
            await _limits_of(cursor, org),
            [Raise(r.period, r.extra_nanousd, r.begins_at, r.ends_at) for r in standing],
            org.spec.time_zone,
            self._clock.now(),
        )
        raise_id = new_id()
        await repository.insert(cursor, org_id, raise_id, wanted, actor)
        await self._sign(cursor, org)
        view = await self._one(cursor, org_id, raise_id)
        await admin_events.record(cursor, org_id, actor, "raise.create", None, _document(view))
        return view

    async def end_raise(self, cursor: Cursor, org_id: str, raise_id: UUID, actor: str) -> RaiseView:
        """Ends it now; does nothing where it stands no more. Raises NotFound."""
        org = await hold_org(cursor, org_id)
        before = await self._one(cursor, org_id, raise_id)
        if not await repository.end(cursor, org_id, raise_id, actor):
            return before
        await self._sign(cursor, org)
        view = await self._one(cursor, org_id, raise_id)
        await admin_events.record(
            cursor, org_id, actor, "raise.end", _document(before), _document(view)
        )
        return view

    async def raises(self, cursor: Cursor, org_id: str) -> list[RaiseView]:
        """All raises, those that are over too."""
        now = self._clock.now()
        return [_view(row, now) for row in await repository.rows(cursor, org_id)]

    async def acknowledge_excess(
        self, cursor: Cursor, org_id: str, actor: str
    ) -> ExcessAcknowledged:
        """What a provider took beyond its holds until now stops nothing any more. Raises
        NotFound."""
        org = await hold_org(cursor, org_id)
        before, now = await repository.acknowledged_until(cursor, org_id), self._clock.now()
        await repository.acknowledge(cursor, org_id, now)
        await self._sign(cursor, org)
        await admin_events.record(
            cursor,
            org_id,
            actor,
            "excess.acknowledge",
            {"until": before.isoformat() if before else None},
            {"until": now.isoformat()},
        )
        return ExcessAcknowledged(
            org_id=org_id,
            excess_acknowledged_until=now,
            version=await registry.snapshot_version(cursor, org_id),
        )

    async def _sign(self, cursor: Cursor, org: OrgRow) -> None:
        # Its caps stand in the snapshots of all below it too.
        below = await registry.tree_under(cursor, org.root_org_id, org.org_id)
        await self._signatory.sign_anew(cursor, sorted(below))

    async def _one(self, cursor: Cursor, org_id: str, raise_id: UUID) -> RaiseView:
        for view in await self.raises(cursor, org_id):
            if view.raise_id == str(raise_id):
                version = await registry.snapshot_version(cursor, org_id)
                return view.model_copy(update={"version": version})
        raise NotFound(
            f"Tenant {org_id!r} has no raise {str(raise_id)!r}.",
            hint=f"GET /v1/tenants/{org_id}/raises lists them.",
        )


async def _limits_of(cursor: Cursor, org: OrgRow) -> Limits:
    assert org.plan is not None  # only a deleted org has none
    plans = await registry.plan_terms(cursor, [org.plan])
    return org.spec.limits.over(plans[org.plan].spec.limits)


def _view(row: RaiseRow, now: datetime) -> RaiseView:
    return RaiseView(
        raise_id=row.raise_id,
        period=row.period,
        extra_usd=format_usd(row.extra_nanousd).lstrip("$").replace(",", ""),
        begins_at=row.begins_at,
        ends_at=row.ends_at,
        state=state_at(now, row.begins_at, row.ends_at, row.ended_at),
        created_by=row.created_by,
        created_at=row.created_at,
        ended_by=row.ended_by,
        ended_at=row.ended_at,
    )


def _document(view: RaiseView) -> dict[str, Any]:
    return view.model_dump(mode="json", by_alias=True, exclude_none=True)
