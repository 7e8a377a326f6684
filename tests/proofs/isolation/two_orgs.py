"""One table, and two orgs with rows in it: what each proof about tables starts from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow

from tests.fixtures.isolation import PlaneDatabase, Query, Refusal, Seen
from tests.proofs.isolation.table_cases import TableCase


@dataclass(frozen=True)
class Two:
    """One table, and two orgs that have rows in it."""

    case: TableCase
    database: PlaneDatabase
    victim: str
    intruder: str
    columns: tuple[str, ...]  # those that can be written

    def may(self, verb: str) -> bool:
        return verb in self.case.app_may

    @property
    def schema(self) -> sql.Identifier:
        return sql.Identifier(self.case.table.partition(".")[0])

    def query(self, text: Any, **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(text).format(table=self.case.name, **parts)

    async def rows_of(self, org_id: str) -> list[dict[str, Any]]:
        """As JSON, in the order of their text: what the owner sees."""
        query = self.query(
            "SELECT to_jsonb(t) AS row FROM {table} t WHERE org_id = %s ORDER BY to_jsonb(t)::text"
        )
        return [found["row"] for found in await self.database.look(query, org_id)]

    async def as_intruder(self, text: Any, *values: object) -> Seen | Refusal:
        return await self.database.attempt(self.intruder, self.query(text), *values)

    def insert(self) -> sql.Composed:
        columns = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        return self.query(
            "INSERT INTO {table} ({columns})"
            " SELECT {columns} FROM jsonb_populate_record(NULL::{table}, %s)",
            columns=columns,
        )


def states(*answers: Seen | Refusal) -> set[str | None]:
    """SQL states of refusals; what was not refused is named by what it saw."""
    return {a.sqlstate if isinstance(a, Refusal) else f"saw {a.count} rows" for a in answers}


class Opened:
    """A transaction of an administrator in which one other line of defence was opened, so that the
    one under test stands alone; the statements run as a role of production. All is rolled back."""

    def __init__(self, database: PlaneDatabase, connection: AsyncConnection[DictRow]) -> None:
        self._database = database
        self._connection = connection

    def role(self, kind: str) -> sql.Identifier:
        return sql.Identifier(self._database.provisioned.bootstrapped.role(kind))

    async def open(self, query: Query, *values: object) -> None:
        """As the administrator."""
        await self._connection.execute("RESET ROLE")
        await self._connection.execute(query, values or None)

    async def become(self, kind: str, org_id: str | None = None) -> None:
        """The role, and the tenant with a good proof where one is named."""
        await self._connection.execute("RESET ROLE")
        proof = self._database.pool.proof_for(org_id) if org_id else ""
        await self._connection.execute(
            "SELECT set_config('app.current_tenant', %s, true),"
            " set_config('app.tenant_proof', %s, true)",
            (org_id or "", proof),
        )
        await self._connection.execute(sql.SQL("SET LOCAL ROLE {}").format(self.role(kind)))

    async def act(self, query: Query, *values: object) -> None:
        """As the role of now; it stays until the transaction is rolled back."""
        await self._connection.execute(query, values or None)

    async def attempt(self, query: Query, *values: object) -> Seen | Refusal:
        """What it does is undone at once."""
        return await self._tried(query, values, undone=True)

    async def keep(self, query: Query, *values: object) -> Seen | Refusal:
        """What it does stays until the transaction is rolled back."""
        return await self._tried(query, values, undone=False)

    async def _tried(
        self, query: Query, values: tuple[object, ...], *, undone: bool
    ) -> Seen | Refusal:
        cursor = self._connection.cursor()
        await cursor.execute("SAVEPOINT attempt")
        try:
            await cursor.execute(query, values or None)
            rows = await cursor.fetchall() if cursor.description else []
            seen = Seen(cursor.rowcount, rows)
        except psycopg.Error as refused:
            await self._connection.execute("ROLLBACK TO SAVEPOINT attempt")
            return Refusal(refused.sqlstate, refused.diag.message_primary or "")
        if undone:
            await self._connection.execute("ROLLBACK TO SAVEPOINT attempt")
        return seen


@asynccontextmanager
async def opened(database: PlaneDatabase) -> AsyncIterator[Opened]:
    async with await AsyncConnection[DictRow].connect(
        database.admin_dsn, row_factory=psycopg.rows.dict_row
    ) as connection:
        try:
            yield Opened(database, connection)
        finally:
            await connection.rollback()
