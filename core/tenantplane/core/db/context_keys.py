"""Installs and retires the keys that sign tenant contexts. Run as owner, by the bootstrap's job.

Rotation: install the new key, roll the services over to it, then retire the old one. Proofs live
60 s, so a minute after the last service has rolled nobody needs the old key.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection

from tenantplane.core.db.proof import PROOF_LIFE_SECONDS, check_key, hmac_pads
from tenantplane.core.db.statements import statement
from tenantplane.core.errors import Conflict, DependencyUnavailable, NotFound


async def install_context_key(owner_dsn: str, key_id: str, key: bytes) -> None:
    """Makes proofs of `key` valid. Idempotent; the database keeps two pads, never the key.

    Raises ValueError (not 32 bytes, bad name), Conflict (the name belongs to another key),
    DependencyUnavailable.
    """
    check_key(key_id, key)
    inner_pad, outer_pad = hmac_pads(key)
    done = await _changed(
        owner_dsn,
        "install_context_key",
        {"key_id": key_id, "inner_pad": inner_pad, "outer_pad": outer_pad},
    )
    if not done:
        raise Conflict(
            f"Context key {key_id!r} is installed with other bytes.",
            hint="Give the new key a new id; retire the old one when nobody signs with it.",
        )


async def retire_context_key(
    owner_dsn: str, key_id: str, *, after: timedelta = timedelta(seconds=PROOF_LIFE_SECONDS)
) -> None:
    """Ends a key `after` from now: by default when the proofs that it made have expired anyway.

    Raises NotFound, DependencyUnavailable.
    """
    if not await _changed(owner_dsn, "retire_context_key", {"key_id": key_id, "after": after}):
        raise NotFound(f"There is no context key {key_id!r}.")


async def _changed(owner_dsn: str, name: str, parameters: dict[str, Any]) -> bool:
    try:
        async with await AsyncConnection.connect(owner_dsn) as connection:
            cursor = await connection.execute(statement(name), parameters)
            return await cursor.fetchone() is not None
    except psycopg.OperationalError as failed:
        raise DependencyUnavailable(
            f"Postgres is not available: {type(failed).__name__}.", retry_after_seconds=2
        ) from failed
