"""Runs SQL that a model wrote: one SELECT, read-only, as the role query, for one tenant.

Nothing here trusts the text, or the parser that looked at it before: it goes to the server as the
one statement of a `DECLARE … CURSOR FOR`, in parentheses, by the extended protocol. Several
statements, SET, RESET, COMMIT and changes of data are syntax errors there; what functions and
tables remain is decided by the grants of the role query (sql/bootstrap_database.sql) and by
row-level security. Time, estimated cost, rows and sizes are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, LiteralString

import psycopg
from psycopg import AsyncServerCursor, sql
from psycopg.abc import AdaptContext
from psycopg.rows import DictRow, dict_row
from pydantic import BaseModel, ConfigDict, Field

from tenantplane.core.db.pool import Database, TenantCursor
from tenantplane.core.db.statements import statement
from tenantplane.core.errors import Unprocessable

_BATCH_ROWS: Final = 50
# Beyond the server's own limit, for the way there and back.
_GRACE_SECONDS: Final = 1.0
_MAX_REASON: Final = 400
# insufficient_resources and program_limit_exceeded: memory, temporary files, depth.
_TOO_LARGE: Final = ("53", "54")

# The subquery keeps its ORDER BY: it is the only item. A row arrives as one JSON text of bounded
# length, whatever its columns are: a single value of a gigabyte never reaches this process.
_BOUNDED: Final[LiteralString] = (
    "{relations}SELECT left(row_to_json(answer.*)::text, {chars}) AS row FROM (\n{query}\n) AS answer"
)


class QueryLimits(BaseModel):
    """Bounds of one query that a model wrote."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Longest run on the server; a person waits behind it.
    seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    # Highest cost that the planner may estimate, in its own units: about seventy of them are a millisecond where it guesses well. Queries above it are refused before they run.
    cost: Annotated[float, Field(gt=0, le=1e9)] = 2_000_000.0
    # More rows are cut. They all go into the next prompt.
    rows: Annotated[int, Field(ge=1, le=10_000)] = 200
    # Characters of one row as JSON; a longer one is refused with advice.
    row_chars: Annotated[int, Field(ge=100, le=100_000)] = 4_000
    # Characters of all rows together; more rows are cut.
    answer_chars: Annotated[int, Field(ge=1_000, le=1_000_000)] = 32_000


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """Rows as JSON objects, in order. `cut` says that there were more."""

    rows: tuple[str, ...]
    cut: bool


class _StrangersText(sql.Composable):
    """The one place where a text that is nobody's constant becomes part of a statement."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        # A per cent sign is a placeholder's beginning, and twice is itself.
        return str(self._obj).replace("%", "%%").encode()


async def run_query(
    database: Database,
    org_id: str,
    relations: Mapping[str, sql.Composable],
    text: str,
    limits: QueryLimits,
) -> QueryAnswer:
    """Rows of the SELECT `text`, in which `relations` (name → query of ours) can be read; they may
    say %(org_id)s.

    Raises Unprocessable with a reason for the model, its code being sql_refused, sql_too_costly,
    sql_timeout, sql_too_large or sql_busy; and DependencyUnavailable.
    """
    wanted = _composed(relations, text, limits.row_chars)
    try:
        async with (
            asyncio.timeout(limits.seconds + _GRACE_SECONDS),
            database.tenant_tx(org_id) as cursor,
        ):
            # Caught within: outside, a time-out of the statement would look like a lost server.
            try:
                return await _answered(cursor, wanted, limits)
            except psycopg.Error as failed:
                refusal = refusal_of(failed, limits)
                if refusal is None:
                    raise
                raise refusal from None
    except TimeoutError:
        raise _timed_out(limits) from None


async def _answered(cursor: TenantCursor, wanted: sql.Composed, limits: QueryLimits) -> QueryAnswer:
    milliseconds = str(max(1, int(limits.seconds * 1000)))
    await cursor.execute(statement("enter_query"), {"timeout_ms": milliseconds})
    # A binary answer is asked for by the extended protocol: one statement and no more.
    org = {"org_id": cursor.org_id}
    await cursor.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(wanted), org, binary=True)
    refuse_costly(await cursor.fetchone(), limits)
    rows: list[str] = []
    chars = 0
    async with AsyncServerCursor[DictRow](
        cursor.connection, "answer", row_factory=dict_row
    ) as answer:
        await answer.execute(wanted, org)
        while batch := await answer.fetchmany(_BATCH_ROWS):
            for row in batch:
                line = refuse_long(row["row"], limits)
                chars += len(line)
                if len(rows) == limits.rows or chars > limits.answer_chars:
                    return QueryAnswer(tuple(rows), cut=True)
                rows.append(line)
    return QueryAnswer(tuple(rows), cut=False)


def _composed(relations: Mapping[str, sql.Composable], text: str, row_chars: int) -> sql.Composed:
    if "\0" in text:
        raise _refused("The text has a NUL character in it.")
    definitions = [
        sql.SQL("{} AS {}").format(sql.Identifier(name), query) for name, query in relations.items()
    ]
    return sql.SQL(_BOUNDED).format(
        relations=sql.SQL("WITH {} ").format(sql.SQL(", ").join(definitions))
        if definitions
        else sql.SQL(""),
        chars=sql.Literal(row_chars + 1),
        query=_StrangersText(text),
    )


def refuse_costly(row: Mapping[str, Any] | None, limits: QueryLimits) -> None:
    """Raises Unprocessable where the planner expects too much work. Its figures stay here: they
    come from statistics of tables that tenants share."""
    plans: Sequence[Mapping[str, Any]] = row["QUERY PLAN"] if row else []
    cost = plans[0]["Plan"]["Total Cost"] if plans else float("inf")
    if not cost <= limits.cost:
        raise Unprocessable(
            "The query would read or combine too much.",
            hint="Filter earlier, join on equal columns, and do not combine whole tables.",
            code="sql_too_costly",
        )


def refuse_long(line: str, limits: QueryLimits) -> str:
    """Raises Unprocessable for a row that was cut by the server: half a JSON is no answer."""
    if len(line) > limits.row_chars:
        raise Unprocessable(
            f"A row is longer than {limits.row_chars} characters.",
            hint="Select fewer columns, or shorten them: left(column, 200).",
            code="sql_too_large",
        )
    return line


def refusal_of(failed: psycopg.Error, limits: QueryLimits) -> Unprocessable | None:
    """What to tell the model; None where it was not its SQL. What Postgres says of a query quotes
    the query itself or values of rows that the tenant may read."""
    state = failed.sqlstate or ""
    if isinstance(failed, psycopg.errors.QueryCanceled):
        return _timed_out(limits)
    if isinstance(failed, psycopg.errors.LockNotAvailable):
        return Unprocessable(
            "The source is being changed.", hint="Try again in a minute.", code="sql_busy"
        )
    if state.startswith(_TOO_LARGE):
        return Unprocessable(
            "The query needs more memory or disk than it may have.",
            hint="Aggregate or filter before you combine or collect values.",
            code="sql_too_large",
        )
    if not state or isinstance(failed, psycopg.OperationalError):
        return None
    if state.startswith("XX"):  # an allocation beyond a gigabyte, or a fault of the server's
        return _refused("The server could not run the query; ask for less or in another way.")
    said = ". ".join(filter(None, (failed.diag.message_primary, failed.diag.message_hint)))
    return _refused(said[:_MAX_REASON] or "The server refused it.")


def _refused(reason: str) -> Unprocessable:
    return Unprocessable(reason, code="sql_refused")


def _timed_out(limits: QueryLimits) -> Unprocessable:
    return Unprocessable(
        f"The query took longer than {limits.seconds:g} seconds.",
        hint="Ask for less: filter by time or key, or aggregate.",
        code="sql_timeout",
    )
