"""The tool `sql`: what a model gets for good SQL, and what it is told about the rest."""

from __future__ import annotations

import asyncio

import pytest

from tenantplane.core.db.query import QueryLimits
from tenantplane.dataplane.sources.sql.sources import SqlSources
from tenantplane.dataplane.tools.definitions import ToolFailed
from tests.fixtures.sql_sources import CANARY, SqlPlane

TABLE = "plain_customers"


async def test_a_source_describes_itself(sql_plane: SqlPlane) -> None:
    text = await sql_plane.call(sql_plane.context(sql_plane.intruder), "sql_describe", source="crm")
    assert text.splitlines() == [
        "Source crm: plain source",
        "",
        "Table plain_customers: plain table",
        "  name text  plain column",
        "  city text",
        "  amount number",
        "  since date",
        "  active boolean",
        "",
        "Table plain_empty",
        "  at timestamp",
    ]
    usage = await sql_plane.call(
        sql_plane.context(sql_plane.intruder), "sql_describe", source="usage"
    )
    assert "Table calls" in usage
    listed = await sql_plane.call(sql_plane.context(sql_plane.intruder), "sql_describe")
    assert [line.partition(":")[0] for line in listed.splitlines()] == ["crm", "usage"]
    assert CANARY not in text + usage + listed


async def test_rows_are_printed_as_the_server_has_them(sql_plane: SqlPlane) -> None:
    text = await sql_plane.ask(
        sql_plane.intruder,
        "crm",
        "SELECT name, amount, since, active, NULL AS gap, amount * 1.10 AS more,"
        " jsonb_build_object('a', array[1, 2]) AS doc, city LIKE 'plain%' AS here"
        f" FROM {TABLE} ORDER BY amount DESC LIMIT 2;",
    )
    assert text.splitlines() == [
        "name | amount | since | active | gap | more | doc | here",
        '"plain-5" | 5.50 | "2024-01-05" | true | null | 6.0500 | {"a": [1, 2]} | true',
        '"plain-4" | 4.50 | "2024-01-04" | true | null | 4.9500 | {"a": [1, 2]} | true',
    ]


@pytest.mark.req("R1", "R3")
async def test_the_same_question_answers_each_org_from_its_own_rows(sql_plane: SqlPlane) -> None:
    question = "SELECT name, count(*), sum(cost_usd) FROM calls GROUP BY name"
    assert await sql_plane.ask(sql_plane.intruder, "usage", question) == (
        'name | count | sum\n"plain-model" | 3 | 0.0000045'
    )
    assert await sql_plane.ask(sql_plane.victim, "usage", question) == (
        'name | count | sum\n"canary-model" | 40 | 0.0000600'
    )


async def test_what_a_question_needs_is_possible(sql_plane: SqlPlane) -> None:
    for question in (
        f"WITH big AS (SELECT * FROM {TABLE} WHERE amount > 2)"
        " SELECT b.name, rank() OVER (ORDER BY b.amount DESC) FROM big b"
        f" JOIN {TABLE} c ON c.name = b.name",
        f"SELECT date_trunc('month', since) AS month, avg(amount)::numeric(10, 2),"
        f" percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) FROM {TABLE} GROUP BY 1",
        f"SELECT DISTINCT upper(left(name, 5)) || '%' FROM {TABLE} WHERE name ~ '^plain-[0-9]$'",
        f"SELECT d::date, count(c.name) FROM generate_series(date '2024-01-01',"
        f" date '2024-01-07', interval '1 day') AS d LEFT JOIN {TABLE} c ON c.since = d"
        " GROUP BY 1 ORDER BY 1",
        f"SELECT CASE WHEN amount > 3 THEN 'big' ELSE 'small' END AS size, count(*) FILTER"
        f" (WHERE active) FROM {TABLE} GROUP BY 1 HAVING count(*) > 1",
        f"SELECT name FROM {TABLE} WHERE amount = (SELECT max(amount) FROM {TABLE})"
        f" UNION ALL SELECT city FROM {TABLE} WHERE since IN (date '2024-01-01')",
        f"SELECT extract(year FROM since), string_agg(name, ', ' ORDER BY name) FROM {TABLE}"
        " GROUP BY 1 -- a remark",
    ):
        text = await sql_plane.ask(sql_plane.intruder, "crm", question)
        assert len(text.splitlines()) > 1, question


async def test_no_rows_is_said(sql_plane: SqlPlane) -> None:
    assert await sql_plane.ask(sql_plane.intruder, "crm", "SELECT * FROM plain_empty") == "No rows."


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("SELECT nmae FROM plain_customers", 'column "nmae" does not exist'),
        ("SELECT plain_customers.nam FROM plain_customers", "plain_customers.name"),
        ("SELECT * FROM customer", "has no table customer; it has plain_customers, plain_empty"),
        ("SELECT * FROM crm.plain_customers", "without a schema"),
        ("SELEC 1", "yntax error"),
        ("DELETE FROM plain_customers", "read-only"),
        ("SELECT 1; SELECT 2", "exactly one SELECT"),
        ("SELECT name / 2 FROM plain_customers", "operator does not exist"),
        ("SELECT name::int FROM plain_customers", 'invalid input syntax for type integer: "plain'),
        ("SELECT amount / 0 FROM plain_customers", "division by zero"),
        ("", "exactly one SELECT"),
    ],
)
async def test_the_model_is_told_how_to_mend_it(
    sql_plane: SqlPlane, question: str, told: str
) -> None:
    with pytest.raises(ToolFailed) as refused:
        await sql_plane.ask(sql_plane.intruder, "crm", question)
    assert told in str(refused.value)
    assert "src_" not in str(refused.value)


@pytest.mark.req("R3")
@pytest.mark.parametrize(
    ("sources", "scopes"),
    [((), None), (("documents",), None), (("usage", "crm"), frozenset({"sql"}))],
    ids=["none-granted", "another-granted", "key-without-scope"],
)
async def test_what_is_not_granted_is_not_there(
    sql_plane: SqlPlane, sources: tuple[str, ...], scopes: frozenset[str] | None
) -> None:
    context = sql_plane.context(sql_plane.intruder, sources, scopes)
    assert await sql_plane.call(context, "sql_describe") == "There are no SQL sources."
    for source in ("usage", "crm", "documents", "never-was"):
        with pytest.raises(ToolFailed, match="there are none"):
            await sql_plane.call(context, "sql_describe", source=source)
        with pytest.raises(ToolFailed, match="there are none"):
            await sql_plane.call(context, "sql_query", source=source, sql="SELECT 1")


async def test_a_keys_scopes_narrow_the_sources(sql_plane: SqlPlane) -> None:
    context = sql_plane.context(sql_plane.intruder, scopes=frozenset({"sql", "usage"}))
    assert "Table calls" in await sql_plane.call(context, "sql_describe", source="usage")
    with pytest.raises(ToolFailed, match="there are: usage"):
        await sql_plane.call(context, "sql_describe", source="crm")


async def test_an_answer_is_cut_and_says_so(sql_plane: SqlPlane) -> None:
    many = "SELECT i FROM generate_series(1, 1000) AS s(i)"
    lines = (await sql_plane.ask(sql_plane.intruder, "usage", many)).splitlines()
    assert len(lines) == 202
    assert lines[-1] == "[cut after 200 rows: there are more]"
    exactly = "SELECT i FROM generate_series(1, 200) AS s(i)"
    assert "cut" not in await sql_plane.ask(sql_plane.intruder, "usage", exactly)
    wide = "SELECT array_agg(i) AS list FROM generate_series(1, 2000) AS s(i)"
    with pytest.raises(ToolFailed, match="longer than 4000 characters"):
        await sql_plane.ask(sql_plane.intruder, "usage", wide)


async def test_long_questions_of_one_org_take_turns(sql_plane: SqlPlane) -> None:
    """Ten at once on a pool of one, and each is answered."""
    answers = await asyncio.gather(
        *(sql_plane.ask(sql_plane.intruder, "usage", f"SELECT {n} AS n") for n in range(10))
    )
    assert answers == [f"n\n{n}" for n in range(10)]


async def test_a_costly_question_is_refused_before_it_runs(sql_plane: SqlPlane) -> None:
    sources = SqlSources(sql_plane.database, QueryLimits(cost=10))
    with pytest.raises(Exception, match="read or combine too much"):
        await sources.query(
            sql_plane.intruder,
            "crm",
            "SELECT count(*) FROM generate_series(1, 10000) a, generate_series(1, 10000) b",
        )
