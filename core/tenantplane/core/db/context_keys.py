"""Installs, retires and lists the keys that sign tenant contexts. Run as owner, never by a service.

Rotation: install the new key, roll the services over to it, then retire the old one. Proofs live
60 s, so a minute after the last service has rolled nobody needs the old key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from tenantplane.core.db.proof import PROOF_LIFE_SECONDS, check_key, hmac_pads
from tenantplane.core.db.statements import statement
from tenantplane.core.errors import Conflict, DependencyUnavailable, NotFound


@dataclass(frozen=True, slots=True)
class ContextKeyRow:
    """One key as the database knows it. `seconds_left` is None where no end was set."""

    key_id: str
    installed_at: datetime
    valid_until: datetime | None
    valid: bool
    seconds_left: float | None


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

    Raises NotFound, Conflict (no other key stays valid), DependencyUnavailable.
    """
    if await _changed(owner_dsn, "retire_context_key", {"key_id": key_id, "after": after}):
        return
    if all(known.key_id != key_id for known in await context_keys(owner_dsn)):
        raise NotFound(f"There is no context key {key_id!r}.")
    raise Conflict(
        f"Context key {key_id!r} is the only one that stays valid: without it nobody is served.",
        hint="Install the new key and roll the services over to it first.",
    )


async def context_keys(owner_dsn: str) -> list[ContextKeyRow]:
    """All keys that were ever installed, oldest first. Raises DependencyUnavailable."""
    try:
        async with (
            await AsyncConnection.connect(owner_dsn) as connection,
            connection.cursor(row_factory=class_row(ContextKeyRow)) as cursor,
        ):
            await cursor.execute(statement("context_keys"))
            return await cursor.fetchall()
    except psycopg.OperationalError as failed:
        raise _unavailable(failed) from failed


async def _changed(owner_dsn: str, name: LiteralString, parameters: dict[str, Any]) -> bool:
    try:
        async with (
            await AsyncConnection.connect(owner_dsn) as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            await cursor.execute(statement(name), parameters)
            return await cursor.fetchone() is not None
    except psycopg.OperationalError as failed:
        raise _unavailable(failed) from failed


def _unavailable(failed: psycopg.OperationalError) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"Postgres is not available: {type(failed).__name__}.", retry_after_seconds=2
    )
