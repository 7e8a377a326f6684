"""Row-level security beside a hand-written WHERE: the same rows by the same index.

All read in a transaction of their own over a pool of the same settings. `rls` is `tenant_tx`: app,
in a signed tenant context, with the filter as well. `where` is the table's owner with the filter
alone, after the same cleaning of the session, so that what differs is the tenant context and the
policies. `bare` is the owner without even that: BEGIN, the query, COMMIT.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import LiteralString

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from tenantplane.core.db.pool import Database
from tenantplane.core.db.provision import Provisioned

ROWS, TENANTS, LISTED = 200_000, 100, 20
_TRANSACTIONS_OF_A_ROUND = 1500
_SEED = 20261122

_MAKE: LiteralString = """
CREATE TABLE dataplane.bench_item (
  org_id text NOT NULL, item_id integer NOT NULL, body text NOT NULL,
  PRIMARY KEY (org_id, item_id));
SELECT tp.protect('dataplane.bench_item', 'SELECT');
"""
_FILL: LiteralString = """
INSERT INTO dataplane.bench_item
SELECT 'org-' || n %% %(tenants)s, n / %(tenants)s, repeat('x', 200)
  FROM generate_series(0, %(rows)s - 1) n
"""
_POINT: LiteralString = """
SELECT item_id, body FROM dataplane.bench_item
 WHERE org_id = %(org_id)s AND item_id = %(item_id)s
"""
_LIST: LiteralString = """
SELECT item_id, body FROM dataplane.bench_item
 WHERE org_id = %(org_id)s AND item_id >= %(item_id)s ORDER BY item_id LIMIT 20
"""
# Core's enter_tenant.sql without the context.
_ENTER: LiteralString = """
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE;
RESET ROLE; RESET ALL; CLOSE ALL; DISCARD SEQUENCES; DISCARD TEMP;
SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() WHERE from_sql)
         OR EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) AS spoilt
"""
_QUERIES: dict[str, LiteralString] = {"point": _POINT, "list": _LIST}
Read = Callable[[LiteralString, dict[str, str | int]], Awaitable[int]]


async def policy_ratios(provisioned: Provisioned, rounds: int) -> dict[str, list[float]]:
    """Time under RLS over time without, round by round: `point` and `list` (of 20 rows) against the
    WHERE alone, `point_bare` and `list_bare` against a bare transaction."""
    await _fill(provisioned)
    ratios: dict[str, list[float]] = {}
    async with AsyncExitStack() as opened:
        database = Database(provisioned.settings, name="data")
        opened.push_async_callback(database.close)
        await database.open()
        pool = await opened.enter_async_context(_owner_pool(provisioned))
        ways = {"rls": _under_rls(database), "where": _by_hand(pool), "bare": _bare(pool)}
        for number in range(rounds + 1):
            for name, query in _QUERIES.items():
                seconds = await _paired(ways, query, random.Random(_SEED + number))
                if number:  # the first round warms up
                    for way, figure in (("where", name), ("bare", f"{name}_bare")):
                        ratio = seconds["rls"] / seconds[way]
                        ratios.setdefault(figure, []).append(ratio)
            print(f"  rls: {', '.join(f'{n} {r[-1]:.3f}' for n, r in ratios.items())}")
    return ratios


async def _fill(provisioned: Provisioned) -> None:
    async with await AsyncConnection.connect(provisioned.owner_dsn, autocommit=True) as owner:
        await owner.execute(_MAKE)
        await owner.execute(_FILL, {"rows": ROWS, "tenants": TENANTS})
        await owner.execute("VACUUM ANALYZE dataplane.bench_item")


def _owner_pool(provisioned: Provisioned) -> AsyncConnectionPool[AsyncConnection[DictRow]]:
    settings = provisioned.settings
    return AsyncConnectionPool(
        provisioned.owner_dsn,
        connection_class=AsyncConnection[DictRow],
        min_size=settings.pool_min,
        max_size=settings.pool_max,
        open=False,
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            "prepare_threshold": settings.prepare_threshold,
        },
    )


def _under_rls(database: Database) -> Read:
    async def read(query: LiteralString, values: dict[str, str | int]) -> int:
        async with database.tenant_tx(str(values["org_id"])) as cursor:
            await cursor.execute(query, values)
            return len(await cursor.fetchall())

    return read


def _by_hand(pool: AsyncConnectionPool[AsyncConnection[DictRow]]) -> Read:
    async def read(query: LiteralString, values: dict[str, str | int]) -> int:
        async with pool.connection() as connection:
            entering = psycopg.AsyncClientCursor(connection)
            await entering.execute(_ENTER)
            while entering.nextset():
                pass
            if await entering.fetchone() != {"spoilt": False}:
                raise RuntimeError("the session is spoilt")
            cursor = psycopg.AsyncCursor(connection)
            await cursor.execute(query, values)
            return len(await cursor.fetchall())

    return read


def _bare(pool: AsyncConnectionPool[AsyncConnection[DictRow]]) -> Read:
    async def read(query: LiteralString, values: dict[str, str | int]) -> int:
        async with pool.connection() as connection, connection.transaction():
            cursor = psycopg.AsyncCursor(connection)
            await cursor.execute(query, values)
            return len(await cursor.fetchall())

    return read


async def _paired(
    ways: dict[str, Read], query: LiteralString, chance: random.Random
) -> dict[str, float]:
    """Median seconds of each way for the same reads, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_TRANSACTIONS_OF_A_ROUND):
        values: dict[str, str | int] = {
            "org_id": f"org-{chance.randrange(TENANTS)}",
            "item_id": chance.randrange(ROWS // TENANTS - LISTED),
        }
        for name, read in ways.items():
            started = time.perf_counter()
            found = await read(query, values)
            seconds[name].append(time.perf_counter() - started)
            if found != (1 if query is _POINT else LISTED):
                raise RuntimeError(f"{name} read {found} rows")
        await asyncio.sleep(0)
    return {name: statistics.median(measured) for name, measured in seconds.items()}
