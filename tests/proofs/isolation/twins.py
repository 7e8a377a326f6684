"""A database in which the filters of the product's own statements stand alone.

Its policies let app and SQL of a model see all rows, and no check or foreign key is left. Rows of one org can be kept,
and laid down again for a twin: another org with the very same ids and, where a column holds bytes,
other content. What a wrapper answers must be the same with a twin beside it as without, and the
twin's rows must stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row

ORG: Final = "middle-org"
# Before ORG in every index and, since its rows are laid down first, in the table too: a look-up
# without the filter meets it first.
TWIN: Final = "first-twin"

_TABLES: Final[LiteralString] = """
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND a.attgenerated = '' ORDER BY a.attnum) AS columns,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid = 'bytea'::regtype
                AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisunique
                                   AND a.attnum = ANY (x.indkey))) AS contents,
       ARRAY(SELECT quote_ident(k.conname) FROM pg_constraint k
              WHERE k.conrelid = c.oid AND k.contype IN ('c', 'f') AND k.conparentid = 0
              ORDER BY k.contype DESC) AS rules
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND n.nspname !~ '^(pg_|information_schema$|kept$)'
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id'
                  AND NOT a.attisdropped)
 ORDER BY 1
"""
_POLICIES: Final[LiteralString] = """
SELECT quote_ident(p.polname) AS name, p.polrelid::regclass::text AS table,
       p.polwithcheck IS NOT NULL AS writes
  FROM pg_policy p
 WHERE p.polroles && ARRAY[tp.role_name('app')::regrole::oid, tp.role_name('query')::regrole::oid]
"""
# Columns of texts that a tenant wrote: the twin wrote others.
_TEXTS: Final = ("body", "heading", "media_type")
# By table: what the twin has in columns that are no content and no id.
_OTHERS: Final[dict[str, dict[str, LiteralString]]] = {
    "dataplane.document": {
        "name": "replace(name, 'b.md', 'theirs.md')",
        "chunks": "chunks + 7",
    },
    "dataplane.library": {"embedding_model": "'theirs'"},
}
# Columns that say whose a row is.
_OWNERS: Final = ("org_id", "root_org_id")


@dataclass(frozen=True)
class Table:
    name: str
    columns: Sequence[str]
    contents: Sequence[str]
    rules: Sequence[str]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(*self.name.split("."))

    @property
    def copy(self) -> sql.Identifier:
        return sql.Identifier("kept", self.name.replace(".", "_"))

    def of_the_twin(self, column: str) -> sql.Composable:
        name = sql.Identifier(column)
        if column in _OWNERS:
            return sql.SQL("replace({}, {}, {})").format(name, sql.Literal(ORG), sql.Literal(TWIN))
        if column in _OTHERS.get(self.name, {}):
            return sql.SQL(_OTHERS[self.name][column])
        if column in _TEXTS and column not in self.contents:
            return sql.SQL("{} || ' of the twin'").format(name)
        if column in self.contents:
            return sql.SQL("{} || '\\xff'::bytea").format(name)
        return name


class TwinDatabase:
    """Worked on by an administrator, beside the product's own pool."""

    def __init__(self, administrator: AsyncConnection[DictRow], tables: Sequence[Table]) -> None:
        self._administrator = administrator
        self._tables = tables

    @classmethod
    async def prepare(cls, admin_dsn: str) -> TwinDatabase:
        """Opens what stands beside the filters. Close it when done."""
        connection = await AsyncConnection[DictRow].connect(
            admin_dsn, autocommit=True, row_factory=dict_row
        )
        rows = await (await connection.execute(_TABLES)).fetchall()
        tables = [Table(**row) for row in rows]
        # Nobody's triggers: rows are laid down in any order.
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("CREATE SCHEMA kept")
        twins = cls(connection, tables)
        await twins.weaken()
        return twins

    async def close(self) -> None:
        await self._administrator.close()

    async def weaken(self) -> None:
        """Before each test: a mutant of a policy that was taken back has closed it again."""
        for table in sorted(self._tables, key=lambda t: -len(t.rules)):
            for rule in table.rules:
                drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {} CASCADE")
                await self._administrator.execute(drop.format(table.identifier, sql.SQL(rule)))
        for policy in await (await self._administrator.execute(_POLICIES)).fetchall():
            check = " WITH CHECK (true)" if policy["writes"] else ""
            statement = f"ALTER POLICY {policy['name']} ON {policy['table']} USING (true){check}"
            await self._administrator.execute(statement.encode())

    async def keep(self) -> None:
        """What stands now is what `lay_down` lays down."""
        for table in self._tables:
            await self._run("DROP TABLE IF EXISTS {copy}", table)
            await self._run("CREATE TABLE {copy} AS SELECT * FROM {table}", table)

    async def lay_down(self, *, own: bool, twin: bool, own_first: bool = False) -> None:
        """Which rows a look-up without the filter meets first, or last, is for the order to say."""
        async with self._administrator.transaction():
            for table in self._tables:
                await self._run("DELETE FROM {table}", table)
                if own and own_first:
                    await self._lay_down_own(table)
                if twin:
                    theirs = sql.SQL(", ").join(map(table.of_the_twin, table.columns))
                    await self._run(
                        "INSERT INTO {table} ({columns}) SELECT {theirs} FROM {copy}", table, theirs
                    )
                if own and not own_first:
                    await self._lay_down_own(table)

    async def rows_of(self, org_id: str) -> dict[str, list[Any]]:
        """By table, as JSON."""
        found = {}
        for table in self._tables:
            query = sql.SQL(
                "SELECT to_jsonb(t)::text AS row FROM {} t WHERE org_id = %s ORDER BY 1"
            ).format(table.identifier)
            rows = await (await self._administrator.execute(query, (org_id,))).fetchall()
            found[table.name] = [row["row"] for row in rows]
        return found

    async def _lay_down_own(self, table: Table) -> None:
        await self._run("INSERT INTO {table} ({columns}) SELECT {columns} FROM {copy}", table)

    async def look(self, query: LiteralString, *parameters: object) -> list[DictRow]:
        return await (await self._administrator.execute(query, parameters or None)).fetchall()

    async def _run(
        self, text: LiteralString, table: Table, theirs: sql.Composable | None = None
    ) -> None:
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        query = sql.SQL(text).format(
            table=table.identifier, copy=table.copy, columns=columns, theirs=theirs or columns
        )
        await self._administrator.execute(query)
