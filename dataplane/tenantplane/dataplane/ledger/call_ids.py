"""Ids of calls: UUIDv7 (RFC 9562 section 5.7) on the database's clock.

A call's id says since when its hold can be there, on the one clock that also decides whether its
intent may still be committed. So a host with a wrong clock changes nothing.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import uuid_utils

from tenantplane.core.ids import of_number


def new_call_id(database_unix: float) -> UUID:
    """A fresh UUIDv7 at this time (seconds since 1970)."""
    seconds = int(database_unix)
    nanos = int((database_unix - seconds) * 1e9)
    return of_number(uuid_utils.uuid7(seconds, nanos).int)


def smallest_call_id(at: datetime) -> UUID:
    """No call id of this millisecond, or a later one, is smaller."""
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))
