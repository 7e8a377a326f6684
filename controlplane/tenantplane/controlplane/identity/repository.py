"""Reads and writes signing keys, platform keys and used assertions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from psycopg.types.json import Jsonb

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.identity import statements
from tenantplane.controlplane.identity.schemas import KeyHolder, WrappedSigningKey


async def active_signing_key(cursor: Cursor) -> WrappedSigningKey | None:
    await cursor.execute(statements.ACTIVE_SIGNING_KEY)
    row = await cursor.fetchone()
    return None if row is None else WrappedSigningKey(**row)


async def insert_signing_key(
    cursor: Cursor, key: WrappedSigningKey, public_jwk: Mapping[str, str]
) -> None:
    """Does nothing where there is an active key already."""
    await cursor.execute(
        statements.INSERT_SIGNING_KEY,
        {
            "kid": key.kid,
            "wrapped_private": key.wrapped_private,
            "wrapped_key": key.wrapped_key,
            "public_jwk": Jsonb(dict(public_jwk)),
        },
    )


async def public_keys(cursor: Cursor) -> list[dict[str, str]]:
    """Of all signing keys, the retired ones too: what they signed is still verified."""
    await cursor.execute(statements.PUBLIC_KEYS)
    return [row["public_jwk"] for row in await cursor.fetchall()]


async def ensure_platform_key(cursor: Cursor, secret: str, name: str) -> None:
    """Keeps the hash alone."""
    await cursor.execute(statements.ENSURE_PLATFORM_KEY, {"sha256": _sha256(secret), "name": name})


async def holder_of_key(cursor: Cursor, secret: str) -> KeyHolder:
    await cursor.execute(statements.HOLDER_OF_KEY, {"sha256": _sha256(secret)})
    row = await cursor.fetchone()
    assert row is not None
    if row["platform_key"] is not None:
        return KeyHolder("platform", row["platform_key"])
    return KeyHolder("org" if row["is_org_key"] else "unknown")


async def use_assertion(cursor: Cursor, client_id: str, jti: str, expires_at: datetime) -> bool:
    """False where it was used before."""
    await cursor.execute(statements.FORGET_ASSERTIONS)
    await cursor.execute(
        statements.USE_ASSERTION, {"client_id": client_id, "jti": jti, "expires_at": expires_at}
    )
    return cursor.rowcount == 1


def _sha256(secret: str) -> bytes:
    # No slow hash: these secrets have 256 random bits, and there is no list of them to try.
    return hashlib.sha256(secret.encode()).digest()
