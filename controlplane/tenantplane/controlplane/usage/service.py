"""Usage events of all planes: each once, whatever is sent again (F43)."""

from __future__ import annotations

from collections.abc import Sequence

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes.service import Planes
from tenantplane.controlplane.security import security_event
from tenantplane.controlplane.usage import repository
from tenantplane.controlplane.usage.schemas import UsageView
from tenantplane.core.apis.events import BatchAck, UsageEvent
from tenantplane.core.errors import Conflict


class Usage:
    """Takes events in, and sums them up."""

    def __init__(self, planes: Planes) -> None:
        self._planes = planes

    async def ingest(self, cursor: Cursor, plane: str, events: Sequence[UsageEvent]) -> BatchAck:
        """All events or none. Raises Forbidden (`org_not_on_plane`) and Conflict
        (`event_changed`: an id that is known with other content)."""
        claimed: dict[str, str | None] = {}
        for event in events:
            # Two roots for one org in a batch: at least one is wrong, and "" is nobody's root.
            known = claimed.setdefault(event.org_id, event.root_org_id)
            claimed[event.org_id] = known if known == event.root_org_id else ""
        await self._planes.require_placed(cursor, plane, claimed)
        accepted = await repository.insert(cursor, plane, events)
        changed = await repository.with_other_content(cursor, events)
        if changed is not None:
            security_event("usage_event_changed", plane=plane, event_id=changed)
            raise Conflict(
                f"Usage event {changed} is known with other content.",
                hint="An event never changes: correct it by a new event.",
                code="event_changed",
            )
        return BatchAck(accepted=accepted, duplicate=len(events) - accepted)

    async def by_month(self, cursor: Cursor, org_id: str, time_zone: str) -> UsageView:
        months = await repository.by_month(cursor, org_id, time_zone)
        return UsageView(org_id=org_id, time_zone=time_zone, months=tuple(months))

    async def erase_persons(self, cursor: Cursor, org_id: str) -> None:
        """Keeps what was spent, and forgets by whom."""
        await repository.erase_persons(cursor, org_id)
