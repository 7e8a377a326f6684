"""Row-level security beside a hand-written WHERE: the same rows by the same index.

`rls` is `tenant_tx`: app, in a signed tenant context, with the filter as well. `where` is the
table's owner with the filter alone, in a transaction of its own from a pool of the same settings.
Two things are timed: the read (from the statement to its rows, proof and policies included), and
the whole transaction, in which `rls` also resets the session and says who the tenant is.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import LiteralString

from psycopg import AsyncConnection, AsyncCursor
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
_QUERIES: dict[str, LiteralString] = {"point": _POINT, "list": _LIST}


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one read and of its transaction."""

    read: float
    transaction: float


Read = Callable[[LiteralString, dict[str, str | int], int], Awaitable[Timed]]


async def policy_figures(provisioned: Provisioned, rounds: int) -> dict[str, list[float]]:
    """Round by round, by name: ratios `point` and `list` (of 20 rows) of the reads, `point_tx` and
    `list_tx` of the transactions, and microseconds of both kinds of transaction."""
    await _fill(provisioned)
    figures: dict[str, list[float]] = {}
    async with AsyncExitStack() as opened:
        database = Database(provisioned.settings, name="data")
        opened.push_async_callback(database.close)
        await database.open()
        pool = await opened.enter_async_context(_owner_pool(provisioned))
        ways = {"rls": _under_rls(database), "where": _by_hand(pool)}
        for number in range(rounds + 1):
            for name, query in _QUERIES.items():
                timed = await _paired(ways, query, random.Random(_SEED + number))
                if not number:
                    continue  # the first round warms up
                rls, where = timed["rls"], timed["where"]
                for figure, value in (
                    (name, rls.read / where.read),
                    (f"{name}_tx", rls.transaction / where.transaction),
                    (f"{name}_rls_us", rls.transaction * 1e6),
                    (f"{name}_where_us", where.transaction * 1e6),
                ):
                    figures.setdefault(figure, []).append(value)
            print(f"  rls: {', '.join(f'{n} {v[-1]:.3f}' for n, v in figures.items())}")
    return figures


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
    async def read(query: LiteralString, values: dict[str, str | int], rows: int) -> Timed:
        started = time.perf_counter()
        async with database.tenant_tx(str(values["org_id"])) as cursor:
            seconds = await _read(cursor, query, values, rows)
        return Timed(seconds, time.perf_counter() - started)

    return read


def _by_hand(pool: AsyncConnectionPool[AsyncConnection[DictRow]]) -> Read:
    async def read(query: LiteralString, values: dict[str, str | int], rows: int) -> Timed:
        started = time.perf_counter()
        async with pool.connection() as connection, connection.transaction():
            seconds = await _read(connection.cursor(), query, values, rows)
        return Timed(seconds, time.perf_counter() - started)

    return read


async def _read(
    cursor: AsyncCursor[DictRow], query: LiteralString, values: dict[str, str | int], rows: int
) -> float:
    started = time.perf_counter()
    await cursor.execute(query, values)
    found = await cursor.fetchall()
    seconds = time.perf_counter() - started
    if len(found) != rows:
        raise RuntimeError(f"{len(found)} rows were read, not {rows}")
    return seconds


async def _paired(
    ways: dict[str, Read], query: LiteralString, chance: random.Random
) -> dict[str, Timed]:
    """Medians of each way for the same reads, taken in turns."""
    timed: dict[str, list[Timed]] = {name: [] for name in ways}
    rows = 1 if query is _POINT else LISTED
    for _ in range(_TRANSACTIONS_OF_A_ROUND):
        values: dict[str, str | int] = {
            "org_id": f"org-{chance.randrange(TENANTS)}",
            "item_id": chance.randrange(ROWS // TENANTS - LISTED),
        }
        for name, read in ways.items():
            timed[name].append(await read(query, values, rows))
        await asyncio.sleep(0)
    return {
        name: Timed(
            statistics.median(one.read for one in measured),
            statistics.median(one.transaction for one in measured),
        )
        for name, measured in timed.items()
    }
