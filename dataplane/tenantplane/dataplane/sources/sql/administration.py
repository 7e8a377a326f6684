"""Makes, fills, lists and drops an org's SQL sources, as the owner of the database."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Final, LiteralString

import psycopg
from psycopg import AsyncCursor
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tenantplane.core.db.owner import owner_tx
from tenantplane.core.errors import Conflict, FieldError, InvalidInput, NotFound
from tenantplane.core.ids import is_org_id
from tenantplane.dataplane.sources.sql.definition import (
    RESERVED,
    ColumnType,
    Definition,
    Table,
)

_CREATE: Final[LiteralString] = (
    "SELECT dataplane.create_sql_source(%(org_id)s, %(name)s, %(definition)s)"
)
_FIND: Final[LiteralString] = """
SELECT definition FROM dataplane.sql_source WHERE org_id = %(org_id)s AND name = %(name)s
"""
_LIST: Final[LiteralString] = """
SELECT name, definition FROM dataplane.sql_source WHERE org_id = %(org_id)s ORDER BY name
"""
_EMPTY: Final[LiteralString] = (
    "SELECT dataplane.empty_sql_source(%(org_id)s, %(name)s, %(table_no)s)"
)
_LOAD: Final[LiteralString] = (
    "SELECT dataplane.load_sql_source(%(org_id)s, %(name)s, %(table_no)s, %(rows)s) AS rows"
)
_ANALYZE: Final[LiteralString] = (
    "SELECT dataplane.analyze_sql_source(%(org_id)s, %(name)s, %(table_no)s)"
)
_DROP: Final[LiteralString] = "SELECT dataplane.drop_sql_source(%(org_id)s, %(name)s) AS dropped"

_BATCH_ROWS: Final = 1_000
_WORST_LINES: Final = 10
_BOOLEANS: Final = frozenset({"true", "false"})
_MAX_BIGINT: Final = 2**63 - 1

Cells = list[str | None]


@dataclass(frozen=True, slots=True)
class SourceName:
    """One org's source. Raises InvalidInput for what cannot name one."""

    org_id: str
    name: str

    def __post_init__(self) -> None:
        if not is_org_id(self.org_id):
            raise InvalidInput(f"{self.org_id!r} is not an org id.")

    def parameters(self) -> dict[str, object]:
        return {"org_id": self.org_id, "name": self.name}


async def create_source(owner_dsn: str, source: SourceName, definition: Definition) -> None:
    """Makes it, with empty tables; all of it or nothing.

    Raises Conflict (there is one, or the name is taken), InvalidInput, DependencyUnavailable.
    """
    if source.name in RESERVED:
        raise Conflict(f"The name {source.name!r} is taken by a built-in source.")
    try:
        async with owner_tx(owner_dsn) as cursor:
            values = source.parameters() | {"definition": Jsonb(definition.model_dump())}
            await cursor.execute(_CREATE, values)
    except psycopg.errors.UniqueViolation:
        raise Conflict(
            f"{source.org_id} has a source {source.name!r}.", hint="Drop it first."
        ) from None
    except psycopg.errors.CheckViolation:
        raise InvalidInput(
            f"{source.name!r} cannot name a source.",
            hint="Use at most 41 characters of a-z, 0-9, '-' and '_', starting with a letter.",
        ) from None


async def load_rows(
    owner_dsn: str, source: SourceName, table: str, lines: Iterable[str], *, replace: bool
) -> int:
    """Adds the rows of a CSV with a header to a table, or puts them in place of its rows; answers
    how many it has then. All of them or none; an empty cell is null.

    Raises NotFound, InvalidInput (names lines), DependencyUnavailable.
    """
    async with owner_tx(owner_dsn) as cursor:
        number, found = await _table(cursor, source, table)
        values = source.parameters() | {"table_no": number}
        if replace:
            await cursor.execute(_EMPTY, values)
        rows = read_rows(lines, found)
        total = await _add(cursor, values, [])
        while batch := list(islice(rows, _BATCH_ROWS)):
            total = await _add(cursor, values, batch)
        await cursor.execute(_ANALYZE, values)
    return total


async def _add(
    cursor: AsyncCursor[DictRow], values: Mapping[str, object], batch: Sequence[Cells]
) -> int:
    try:
        await cursor.execute(_LOAD, {**values, "rows": Jsonb(batch)})
    except psycopg.DataError as refused:
        raise InvalidInput(f"Postgres refuses a value: {refused.diag.message_primary}.") from None
    row = await cursor.fetchone()
    assert row is not None
    return int(row["rows"])


async def list_sources(owner_dsn: str, org_id: str) -> Mapping[str, Definition]:
    """The sources that were made for an org. Raises DependencyUnavailable."""
    async with owner_tx(owner_dsn) as cursor:
        await cursor.execute(_LIST, {"org_id": org_id})
        rows = await cursor.fetchall()
    return {row["name"]: Definition.model_validate(row["definition"]) for row in rows}


async def drop_source(owner_dsn: str, source: SourceName) -> None:
    """Takes it away with all its rows. Raises NotFound, DependencyUnavailable."""
    async with owner_tx(owner_dsn) as cursor:
        await cursor.execute(_DROP, source.parameters())
        row = await cursor.fetchone()
    if row is None or not row["dropped"]:
        raise _no_source(source)


async def _table(cursor: AsyncCursor[DictRow], source: SourceName, name: str) -> tuple[int, Table]:
    await cursor.execute(_FIND, source.parameters())
    row = await cursor.fetchone()
    if row is None:
        raise _no_source(source)
    tables = Definition.model_validate(row["definition"]).tables
    for number, table in enumerate(tables, start=1):
        if table.name == name:
            return number, table
    raise NotFound(
        f"The source {source.name!r} has no table {name!r}.",
        hint=f"It has {', '.join(table.name for table in tables)}.",
    )


def read_rows(lines: Iterable[str], table: Table) -> Iterator[Cells]:
    """Cells in the order of the table's columns.

    Raises InvalidInput for a bad header, and for bad cells, of which it names the first ten.
    """
    reader = csv.reader(lines)
    header = next(reader, [])
    known = [column.name for column in table.columns]
    if not header or len(set(header)) < len(header) or not set(header) <= set(known):
        raise InvalidInput(
            "The first line must name columns of the table, each once.",
            hint=f"{table.name} has {', '.join(known)}.",
        )
    errors: list[FieldError] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            errors.append(
                FieldError(
                    f"line {reader.line_num}", f"needs {len(header)} cells, has {len(cells)}"
                )
            )
        else:
            row = dict(zip(header, cells, strict=True))
            errors += _faults(row, table, reader.line_num)
            if not errors:
                yield [row.get(name) or None for name in known]
        if len(errors) >= _WORST_LINES:
            break
    if errors:
        raise InvalidInput(
            "The file has cells that do not fit: "
            + "; ".join(f"{e.path}: {e.message}" for e in errors[:_WORST_LINES]),
            errors=tuple(errors[:_WORST_LINES]),
        )


def _faults(row: Mapping[str, str], table: Table, line: int) -> Sequence[FieldError]:
    return [
        FieldError(f"line {line}, {column.name}", f"is not {column.type}")
        for column in table.columns
        if row.get(column.name) and not _fits(row[column.name], column.type)
    ]


def _fits(cell: str, kind: ColumnType) -> bool:
    try:
        match kind:
            case "text":
                return "\0" not in cell
            case "integer":
                return abs(int(cell)) <= _MAX_BIGINT
            case "number":
                return Decimal(cell).is_finite()
            case "boolean":
                return cell.lower() in _BOOLEANS
            case "date":
                date.fromisoformat(cell)
            case "timestamp":
                datetime.fromisoformat(cell)
    except (ValueError, InvalidOperation):
        return False
    return True


def _no_source(source: SourceName) -> NotFound:
    return NotFound(f"{source.org_id} has no source {source.name!r}.")
