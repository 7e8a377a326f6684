"""The SQL sources of orgs: found in the register, asked by SQL that a model wrote."""

from __future__ import annotations

from typing import Final, LiteralString

from tenantplane.core.db.pool import Database
from tenantplane.core.db.query import QueryAnswer, QueryLimits, run_query
from tenantplane.core.errors import NotFound, Unprocessable
from tenantplane.core.turns import Turns
from tenantplane.dataplane.sources.sql.definition import Definition
from tenantplane.dataplane.sources.sql.parser import check_query
from tenantplane.dataplane.sources.sql.source import USAGE, Source, usage_source

_ALL: Final[LiteralString] = """
SELECT name, schema_name::text, definition FROM dataplane.sql_source
 WHERE org_id = %(org_id)s ORDER BY name
"""

# Heavy queries of one org must not take the sessions that all orgs share.
_AT_ONCE: Final = 4
_AT_ONCE_OF_ONE_ORG: Final = 2
_WAIT_SECONDS: Final = 30.0


class SqlSources:
    def __init__(self, database: Database, limits: QueryLimits | None = None) -> None:
        self._database = database
        self._limits = limits or QueryLimits()
        self._turns = Turns(
            each=_AT_ONCE_OF_ONE_ORG, at_once=_AT_ONCE, wait_seconds=_WAIT_SECONDS, busy=_busy
        )

    async def of(self, org_id: str) -> dict[str, Source]:
        """All sources of an org by name, the built-in one among them; whether its snapshot allows
        them is the caller's to ask. Raises DependencyUnavailable."""
        async with self._database.tenant_tx(org_id) as cursor:
            await cursor.execute(_ALL, {"org_id": org_id})
            rows = await cursor.fetchall()
        made = {
            row["name"]: Source(
                row["name"], Definition.model_validate(row["definition"]), row["schema_name"]
            )
            for row in rows
        }
        return made | {USAGE: usage_source()}

    async def query(self, org_id: str, name: str, text: str) -> QueryAnswer:
        """Rows of one SELECT over the tables of a source.

        Raises NotFound (source), Unprocessable with a reason for the model (its SQL),
        DependencyUnavailable.
        """
        source = (await self.of(org_id)).get(name)
        if source is None:
            raise NotFound(f"There is no SQL source {name!r}.")
        checked = check_query(text, name, source.tables)
        relations = source.relations(checked.tables)
        async with self._turns.of(org_id):
            return await run_query(self._database, org_id, relations, checked.text, self._limits)


def _busy() -> Unprocessable:
    return Unprocessable(
        "Too many queries are at work.", hint="Try again in a minute.", code="sql_busy"
    )
