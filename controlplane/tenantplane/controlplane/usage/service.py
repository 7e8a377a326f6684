"""Usage events of all planes: each once, whatever is sent again (F43), and the sums over them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes.service import Planes
from tenantplane.controlplane.security import security_event
from tenantplane.controlplane.usage import repository, spending
from tenantplane.controlplane.usage.schemas import SpendAlert, UsageView
from tenantplane.core.apis.events import BatchAck, PlaneUsage, UsageBatch, UsageEvent
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.errors import Conflict

_log = logging.getLogger(__name__)

PAGE: Final = 1000


class Usage:
    """Takes events in, sums them up, and warns of caps that come near."""

    def __init__(self, planes: Planes, clock: DatabaseClock) -> None:
        self._planes = planes
        self._clock = clock

    async def ingest(self, cursor: Cursor, plane: str, events: Sequence[UsageEvent]) -> BatchAck:
        """All events or none. Raises Forbidden (`org_not_on_plane`) and Conflict
        (`event_changed`: an id that is known with other content)."""
        claimed: dict[str, str | None] = {}
        for event in events:
            # Two roots for one org in a batch: at least one is wrong, and "" is nobody's root.
            known = claimed.setdefault(event.org_id, event.root_org_id)
            claimed[event.org_id] = known if known == event.root_org_id else ""
        await self._planes.require_placed(cursor, plane, claimed)
        new = await repository.insert(cursor, plane, events)
        changed = await repository.with_other_content(cursor, events)
        if changed is not None:
            security_event("usage_event_changed", plane=plane, event_id=changed)
            raise Conflict(
                f"Usage event {changed} is known with other content.",
                hint="An event never changes: correct it by a new event.",
                code="event_changed",
            )
        if new:
            await self._add_up(cursor, plane, new)
        return BatchAck(accepted=len(new), duplicate=len(events) - len(new))

    async def view(self, cursor: Cursor, org_id: str, time_zone: str) -> UsageView:
        """Sums over the org and all below it, which its own transaction does not see."""
        now = self._clock.now().astimezone(ZoneInfo(time_zone))
        today, month = now.date(), now.date().replace(day=1)
        orgs = await repository.tree(cursor, org_id)
        months = await repository.by_month(cursor, orgs, time_zone)
        days = await repository.by_day(cursor, org_id, _first_day_needed(now))
        spent = sum(nanousd for day, nanousd in days.items() if day >= month)
        return UsageView(
            org_id=org_id,
            time_zone=time_zone,
            orgs=tuple(orgs),
            months=tuple(months),
            today_nanousd=days.get(today, 0),
            this_month_nanousd=spent,
            forecast_nanousd=spending.month_end_forecast(spent, now),
            spike=spending.is_spike(days, today),
        )

    async def alerts(self, cursor: Cursor, org_id: str) -> list[SpendAlert]:
        """The newest first, 500 at most."""
        return await repository.alerts(cursor, org_id)

    async def acknowledged(self, cursor: Cursor, plane: str) -> PlaneUsage:
        """How much the plane has reported of each org."""
        return PlaneUsage(orgs=tuple(await repository.plane_usage(cursor, plane)))

    async def reported(
        self, cursor: Cursor, plane: str, org_id: str, after: UUID, limit: int
    ) -> UsageBatch:
        """A page of what the plane has reported of the org, in order of event ids."""
        events = await repository.plane_events(cursor, plane, org_id, after, limit)
        return UsageBatch(events=tuple(events))

    async def erase_persons(self, cursor: Cursor, org_id: str) -> None:
        """Keeps what was spent, and forgets by whom."""
        await repository.erase_persons(cursor, org_id)

    async def _add_up(self, cursor: Cursor, plane: str, new: Sequence[UsageEvent]) -> None:
        await repository.add_plane_usage(cursor, plane, new)
        lines = await self._planes.levels(cursor, sorted({event.org_id for event in new}))
        spent = await repository.add_level_spend(cursor, spending.sums(new, lines))
        levels = {level.id: level for line in lines.values() for level in line}
        due = [
            alert
            for account, nanousd in spent.items()
            if account.org_id in levels
            for alert in spending.alerts(
                account, nanousd, levels[account.org_id], self._clock.now()
            )
        ]
        if due:
            for account, percent in await repository.raise_alerts(cursor, due):
                _log.warning(
                    "org %s has spent %d %% of its cap of %s %s",
                    account.org_id,
                    percent,
                    account.period,
                    account.period_id,
                )


def _first_day_needed(now: datetime) -> date:
    """Of this month, and of the two weeks that a spike is measured by."""
    today = now.date()
    return min(today.replace(day=1), today - timedelta(days=spending.SPIKE_DAYS))
