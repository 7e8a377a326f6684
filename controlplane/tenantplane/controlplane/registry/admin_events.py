"""What operators did to an org: who, when, and what it was before and after. Never a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, LiteralString

from psycopg.types.json import Jsonb

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.core.ids import new_id

Action = Literal["raise.create", "raise.end", "excess.acknowledge"]

_INSERT: Final[LiteralString] = """
INSERT INTO controlplane.admin_event (org_id, event_id, actor, action, before, after)
VALUES (%(org_id)s, %(event_id)s, %(actor)s, %(action)s, %(before)s, %(after)s)
"""


async def record(
    cursor: Cursor,
    org_id: str,
    actor: str,
    action: Action,
    before: Mapping[str, object] | None,
    after: Mapping[str, object] | None,
) -> None:
    """In the transaction of the act itself: neither is there without the other."""
    await cursor.execute(
        _INSERT,
        {
            "org_id": org_id,
            "event_id": new_id(),
            "actor": actor,
            "action": action,
            "before": None if before is None else Jsonb(dict(before)),
            "after": None if after is None else Jsonb(dict(after)),
        },
    )
