"""Rows of agents' state as their owner sees them, and as somebody with the disk could change them."""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow

Owner = AsyncConnection[DictRow]
STATE_TABLES = ("checkpoint", "checkpoint_blob", "checkpoint_write")


async def rows_of(owner: Owner, table: str, org_id: str) -> list[dict[str, Any]]:
    """As JSON; bytes stand as hexadecimal digits."""
    query = sql.SQL("SELECT to_jsonb(t) AS row FROM {} t WHERE org_id = %s").format(
        sql.Identifier("dataplane", table)
    )
    found = await (await owner.execute(query, (org_id,))).fetchall()
    return [row["row"] for row in found]


async def overwrite(owner: Owner, table: str, org_id: str, body: bytes) -> None:
    """Puts these bytes into every row that the org has there."""
    query = sql.SQL("UPDATE {} SET body = %s WHERE org_id = %s").format(
        sql.Identifier("dataplane", table)
    )
    assert (await owner.execute(query, (body, org_id))).rowcount > 0


async def changed(owner: Owner, query: LiteralString, **values: object) -> int:
    """How many rows a statement changed; some, or it proves nothing."""
    count = (await owner.execute(query, values)).rowcount
    assert count > 0
    return count
