"""SQL over the org's read-only sources: the model writes it, and reads rows or why it was refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from tenantplane.core.db.query import QueryAnswer
from tenantplane.core.errors import NotFound, Unprocessable
from tenantplane.dataplane.gate.allowed import allowed_names
from tenantplane.dataplane.sources.sql.definition import Table
from tenantplane.dataplane.sources.sql.parser import MAX_CHARS
from tenantplane.dataplane.sources.sql.source import Source
from tenantplane.dataplane.sources.sql.sources import SqlSources
from tenantplane.dataplane.tools.definitions import (
    Tool,
    ToolArguments,
    ToolContext,
    ToolFailed,
    ToolFunction,
)


class DescribeArguments(ToolArguments):
    source: Annotated[
        str, Field(max_length=100, description="Name of the source; without it, all are listed")
    ] = ""


class QueryArguments(ToolArguments):
    source: Annotated[str, Field(max_length=100, description="Name of the source")]
    sql: Annotated[
        str,
        Field(
            max_length=MAX_CHARS,
            description="One SELECT in PostgreSQL's dialect over the source's tables",
        ),
    ]


def sql_tool(sources: SqlSources) -> Tool:
    """The tool `sql`, over the sources that the caller may use when it calls."""

    async def describe(context: ToolContext, arguments: DescribeArguments) -> str:
        usable = await _usable(sources, context)
        if not arguments.source:
            return listing(usable)
        return description(_chosen(usable, arguments.source))

    async def query(context: ToolContext, arguments: QueryArguments) -> str:
        _chosen(await _usable(sources, context), arguments.source)
        try:
            answer = await sources.query(context.tenant.org_id, arguments.source, arguments.sql)
        except (Unprocessable, NotFound) as refused:
            raise ToolFailed(str(refused)) from None
        return table_of(answer)

    return Tool(
        "sql",
        (
            ToolFunction(
                "sql_describe",
                "The SQL sources, or tables and columns of one.",
                DescribeArguments,
                describe,
            ),
            ToolFunction(
                "sql_query",
                "Rows of one SELECT over a SQL source; describe the source first.",
                QueryArguments,
                query,
            ),
        ),
    )


async def _usable(sources: SqlSources, context: ToolContext) -> dict[str, Source]:
    # The snapshot in force, not the run's own: a source that was taken back is read no more.
    granted = set(allowed_names("data_source", context.run.standing(), context.tenant))
    there = await sources.of(context.tenant.org_id)
    return {name: there[name] for name in sorted(granted & set(there))}


def _chosen(usable: Mapping[str, Source], name: str) -> Source:
    if name not in usable:
        choice = f"there are: {', '.join(usable)}" if usable else "there are none"
        raise ToolFailed(f"There is no SQL source {name!r}; {choice}.")
    return usable[name]


def listing(usable: Mapping[str, Source]) -> str:
    """Names and descriptions, a line each."""
    lines = [f"{name}: {source.definition.description}" for name, source in usable.items()]
    return "\n".join(lines) or "There are no SQL sources."


def description(source: Source) -> str:
    """Name, tables and columns, a line each."""
    lines = [f"Source {source.name}: {source.definition.description}".rstrip(": ")]
    for table in source.definition.tables:
        lines += ["", *_described(table)]
    return "\n".join(lines)


def _described(table: Table) -> list[str]:
    head = f"Table {table.name}: {table.description}".rstrip(": ")
    columns = [f"  {c.name} {c.type}  {c.description}".rstrip() for c in table.columns]
    return [head, *columns]


class _Number(str):
    """A number as the server printed it: a float would lose digits."""

    __slots__ = ()


def table_of(answer: QueryAnswer) -> str:
    """Column names, then a line of values for each row, as JSON separated by ` | `."""
    if not answer.rows:
        return "No rows."
    rows = [
        json.loads(
            row,
            object_pairs_hook=list,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
        )
        for row in answer.rows
    ]
    lines = [" | ".join(name for name, _ in rows[0])]
    lines += [" | ".join(_shown(value) for _, value in row) for row in rows]
    if answer.cut:
        lines.append(f"[cut after {len(rows)} rows: there are more]")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(v, tuple) for v in value):
        return "{" + ", ".join(f"{json.dumps(k)}: {_shown(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
