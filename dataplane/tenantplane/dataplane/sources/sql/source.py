"""A source as a query meets it: names and columns for the model, and a query of ours for each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import sql

from tenantplane.dataplane.sources.sql.definition import Column, Definition, Table

USAGE: Final = "usage"

_TABLE: Final[LiteralString] = (
    "NOT MATERIALIZED (SELECT {columns} FROM {table} WHERE org_id = %(org_id)s)"
)

# Calls of all orgs stand in one table. Their statistics must not be felt through the planner's
# estimates, by which costly queries are refused: so it is materialised, and each column is an
# expression, of which the planner knows nothing.
_CALLS: Final[LiteralString] = """MATERIALIZED (
SELECT i.intent_id::text AS call_id,
       i.run_id::text AS run_id,
       i.made_at + interval '0' AS made_at,
       '' || i.kind AS kind,
       '' || i.resource AS name,
       coalesce(i.stage, 'open') AS status,
       coalesce(o.input_tokens, 0) AS input_tokens,
       coalesce(o.output_tokens, 0) AS output_tokens,
       trim_scale(i.cost_nanousd * 0.000000001) AS cost_usd
  FROM dataplane.intent i
  LEFT JOIN dataplane.outcome o
         ON o.org_id = %(org_id)s AND o.intent_id = i.intent_id AND o.stage = i.stage
 WHERE i.org_id = %(org_id)s
 ORDER BY i.intent_id DESC
 LIMIT 100000)"""

_USAGE: Final = Definition(
    description="What this organisation's agents called, and what it cost.",
    tables=(
        Table(
            name="calls",
            description="One row for each model or tool call, the latest 100,000.",
            columns=(
                Column(name="call_id", type="text"),
                Column(name="run_id", type="text", description="calls of one run share it"),
                Column(name="made_at", type="timestamp", description="UTC"),
                Column(name="kind", type="text", description="model or tool"),
                Column(name="name", type="text", description="of the model or tool"),
                Column(
                    name="status", type="text", description="actual, estimated, or open: running"
                ),
                Column(name="input_tokens", type="integer"),
                Column(name="output_tokens", type="integer"),
                Column(name="cost_usd", type="number"),
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Source:
    """One org's source. `schema` is where its tables stand; None is the built-in one."""

    name: str
    definition: Definition
    schema: str | None

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(table.name for table in self.definition.tables)

    def relations(self, names: Collection[str]) -> Mapping[str, sql.Composable]:
        """For each named table the query that it stands for; they take the parameter org_id."""
        if self.schema is None:
            return {name: sql.SQL(_CALLS) for name in names}
        return {
            table.name: sql.SQL(_TABLE).format(
                columns=sql.SQL(", ").join(
                    sql.SQL("{} AS {}").format(
                        sql.Identifier(f"c{number}"), sql.Identifier(column.name)
                    )
                    for number, column in enumerate(table.columns, start=1)
                ),
                table=sql.Identifier(self.schema, f"t{position}"),
            )
            for position, table in enumerate(self.definition.tables, start=1)
            if table.name in names
        }


def usage_source() -> Source:
    """The built-in source: the org's own calls, read from the ledger."""
    return Source(USAGE, _USAGE, None)
