"""SQL that a model wrote reads its tenant's source and nothing else (F14): by the tool, and by the
database alone with the parser out of the way."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping

import psycopg
import pytest
from psycopg import sql

from tenantplane.core.db.query import QueryLimits, run_query
from tenantplane.core.errors import Unprocessable
from tenantplane.dataplane.sources.sql.source import usage_source
from tenantplane.dataplane.tools.definitions import ToolFailed
from tests.fixtures.sql_sources import CANARY, SqlPlane
from tests.integration.dataplane.sources.sql.attacks import (
    FUNCTIONS,
    ORACLES,
    RELATIONS,
    STATEMENTS,
)

pytestmark = [pytest.mark.req("R3"), pytest.mark.fault("F14")]

LIMITS = QueryLimits(seconds=2.0)
SOURCE_TABLE = re.compile(r"src_[0-9a-f]{32}\.t[0-9]+")


def named(attacks: dict[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attack", attacks.values(), ids=attacks)


async def written(plane: SqlPlane, attack: str) -> str:
    return attack.format(theirs=await plane.schema_of(plane.victim), victim=plane.victim)


async def refused_by_the_tool(plane: SqlPlane, sql: str) -> None:
    for source in ("usage", "crm"):
        with pytest.raises(ToolFailed) as refused:
            await plane.ask(plane.intruder, source, sql)
        assert "later" not in str(refused.value)  # refused, and not merely out of order


async def past_the_parser(plane: SqlPlane, sql: str) -> tuple[str, ...] | Unprocessable:
    """As the role query, by the executor's own way in, without the parser."""
    try:
        return (await run_query(plane.database, plane.intruder, {}, sql, LIMITS)).rows
    except Unprocessable as refused:
        return refused


async def nothing_is_left(plane: SqlPlane) -> None:
    """The one connection of the pool serves on, as app, in the tenant that is asked for."""
    async with plane.database.tenant_tx(plane.victim) as cursor:
        await cursor.execute(
            "SELECT current_user::text AS role, tp.current_org() AS org,"
            " current_setting('transaction_read_only') AS read_only,"
            " current_setting('search_path') AS path,"
            " (SELECT count(*) FROM dataplane.intent) AS calls"
        )
        assert await cursor.fetchone() == {
            "role": plane.provisioned.bootstrapped.role("app"),
            "org": plane.victim,
            "read_only": "off",
            "path": "public, pg_temp",
            "calls": 40,
        }


@named(STATEMENTS)
async def test_only_one_select_is_run(sql_plane: SqlPlane, attack: str) -> None:
    sql = await written(sql_plane, attack)
    await refused_by_the_tool(sql_plane, sql)
    answer = await past_the_parser(sql_plane, sql)
    assert isinstance(answer, Unprocessable), answer
    await nothing_is_left(sql_plane)


@named(FUNCTIONS)
async def test_functions_of_the_server_are_refused(sql_plane: SqlPlane, attack: str) -> None:
    sql = "SELECT " + await written(sql_plane, attack)
    began = time.monotonic()
    await refused_by_the_tool(sql_plane, sql)
    answer = await past_the_parser(sql_plane, sql)
    assert isinstance(answer, Unprocessable), answer
    assert answer.error_code == "sql_refused", answer  # neither run out, nor too costly
    assert CANARY not in str(answer).replace(sql_plane.victim, "")
    assert time.monotonic() - began < 10
    await nothing_is_left(sql_plane)


@pytest.mark.parametrize("relation", RELATIONS)
async def test_the_catalogue_and_other_tables_are_closed(
    sql_plane: SqlPlane, relation: str
) -> None:
    sql = f"SELECT * FROM {relation}"
    await refused_by_the_tool(sql_plane, sql)
    answer = await past_the_parser(sql_plane, sql)
    assert isinstance(answer, Unprocessable), answer
    assert "permission denied" in str(answer)


@named(ORACLES)
async def test_nothing_of_another_tenant_is_told(sql_plane: SqlPlane, attack: str) -> None:
    sql = await written(sql_plane, attack)
    await refused_by_the_tool(sql_plane, sql)
    answer = await past_the_parser(sql_plane, sql)
    if isinstance(answer, Unprocessable):
        # Refused before a row was looked at: no value was in it.
        assert answer.error_code == "sql_refused"
        assert not [word for word in ("zero", "invalid", CANARY) if word in str(answer)], answer
    else:
        assert answer in ((), ('{"c1":null}',)), answer


@pytest.mark.parametrize(
    "mine", ["SELECT c1::int FROM {}.t1", "SELECT 1 FROM {}.t1 WHERE 1 / (length(c1) * 0) > 0"]
)
async def test_the_oracles_would_speak_of_ones_own_rows(sql_plane: SqlPlane, mine: str) -> None:
    """What is silent on the victim's table is not silent by itself."""
    schema = await sql_plane.schema_of(sql_plane.intruder)
    answer = await past_the_parser(sql_plane, mine.format(schema))
    assert isinstance(answer, Unprocessable)
    assert "zero" in str(answer) or "invalid input" in str(answer)


async def test_the_ledger_shows_named_columns_of_ones_own_calls(sql_plane: SqlPlane) -> None:
    rows = await past_the_parser(sql_plane, "SELECT org_id, resource FROM dataplane.intent")
    assert isinstance(rows, tuple)
    assert [json.loads(row)["org_id"] for row in rows] == [sql_plane.intruder] * 3
    for column in ("request_ciphertext", "slots", "user_id", "*"):
        answer = await past_the_parser(sql_plane, f"SELECT {column} FROM dataplane.intent")
        assert isinstance(answer, Unprocessable)
        assert "permission denied" in str(answer)


async def test_the_role_query_reads_what_was_opened_to_it_alone(sql_plane: SqlPlane) -> None:
    """Whatever is in the catalogue, and not only what a list of attacks thinks of."""
    readable = await sql_plane.look(
        "SELECT c.oid::regclass::text AS name FROM pg_class c, tp.role_name('query') AS r(name)"
        " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"
        " AND has_any_column_privilege(r.name, c.oid, 'SELECT, INSERT, UPDATE')"
    )
    # Each source's tables; and a server's own column grants, which tell nothing of tenants.
    others = {row["name"] for row in readable if not SOURCE_TABLE.fullmatch(row["name"])}
    assert others - {"pg_subscription"} == {"dataplane.intent", "dataplane.outcome"}
    assert len(readable) > len(others)
    callable_ = await sql_plane.look(
        "SELECT p.oid::regprocedure::text AS name FROM pg_proc p, tp.role_name('query') AS r(name)"
        " WHERE has_function_privilege(r.name, p.oid, 'EXECUTE')"
        " AND (p.prosecdef OR p.proname ~ '^(pg_|lo_|txid_|has_|set_config|current_setting)'"
        "      OR p.pronamespace IN ('tp'::regnamespace, 'dataplane'::regnamespace))"
    )
    assert [row["name"] for row in callable_] == ["tp.current_org()"]


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (
            "SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 1000) b",
            "cost",
        ),
        ("SELECT count(*) FROM generate_series(1, 1000000000)", "cost"),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
            "timeout",
        ),
        ("SELECT repeat('x', 5000)", "too_large"),
    ],
    ids=["cross-join", "long-series", "recursion", "wide-row"],
)
async def test_work_is_bounded_without_the_parser(
    sql_plane: SqlPlane, attack: str, code: str
) -> None:
    began = time.monotonic()
    answer = await past_the_parser(sql_plane, attack)
    assert isinstance(answer, Unprocessable), answer
    assert code in answer.error_code
    assert time.monotonic() - began < 15
    await nothing_is_left(sql_plane)


APP_ATTACKS = {
    "do": "DO $$ BEGIN PERFORM 1; END $$",
    "settings": "UPDATE pg_settings SET setting = 'off' WHERE name = 'row_security'",
    "copy-program": "COPY (SELECT 1) TO PROGRAM 'id'",
    "copy-file": "COPY (SELECT 1) TO '/tmp/tenantplane-copied'",
    "read-file": "SELECT pg_read_file('/etc/passwd')",
    "lo-import": "SELECT lo_import('/etc/passwd')",
    "index-definitions": "SELECT pg_get_indexdef(indexrelid) FROM pg_index",
    "function": "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "temp-file-limit": "SET LOCAL temp_file_limit = -1",
    "temp-table": "CREATE TEMP TABLE intent (x int)",
    "session-authorization": "SET SESSION AUTHORIZATION postgres",
    "reload": "SELECT pg_reload_conf()",
    "make-a-source": "SELECT dataplane.create_sql_source('x', 'x', '{}')",
    "drop-a-source": "SELECT dataplane.drop_sql_source('x', 'crm')",
    "write-the-register": "INSERT INTO dataplane.sql_source VALUES ('x', 'x', 'x', '{}')",
    "source-tables": "SELECT * FROM {theirs}.t1",
}


@named(APP_ATTACKS)
async def test_app_is_refused_too(sql_plane: SqlPlane, attack: str) -> None:
    """SQL injected into the service's own statements."""
    theirs = await sql_plane.schema_of(sql_plane.victim)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"permission denied|must be"):
        async with sql_plane.database.tenant_tx(sql_plane.intruder) as cursor:
            await cursor.execute(attack.replace("{theirs}", theirs).encode())


async def test_app_does_not_see_statements_of_other_roles(sql_plane: SqlPlane) -> None:
    async with sql_plane.database.tenant_tx(sql_plane.intruder) as cursor:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await cursor.execute("SELECT query FROM pg_stat_activity")


async def test_statistics_tell_app_no_common_values(sql_plane: SqlPlane) -> None:
    await sql_plane.look("ANALYZE dataplane.intent")
    owner = await sql_plane.look(
        "SELECT most_common_vals::text AS values FROM pg_stats"
        " WHERE tablename = 'intent' AND attname = 'resource'"
    )
    async with sql_plane.database.tenant_tx(sql_plane.intruder) as cursor:
        await cursor.execute("SELECT tablename, most_common_vals::text AS values FROM pg_stats")
        rows = await cursor.fetchall()
    # The owner itself is under forced row-level security: not even it is shown them.
    assert owner == []
    assert not [row for row in rows if CANARY in str(row)]


async def test_estimates_of_the_ledger_do_not_follow_others_values(sql_plane: SqlPlane) -> None:
    """Queries are refused by their estimated cost: it must not depend on what others' rows hold."""
    await sql_plane.look("ANALYZE dataplane.intent")
    relations = usage_source().relations({"calls"})
    estimates = set()
    for value in ("canary-model", "plain-model", "no-such-model"):
        text = f"SELECT count(*) FROM calls a, calls b WHERE a.name = '{value}'"
        low, high = 0, 20_000  # hundredths: as finely as an attacker could by his own limit
        while high - low > 1:
            limit = (low + high) // 2
            refused = await costs_more_than(sql_plane, relations, text, limit / 100)
            low, high = (limit, high) if refused else (low, limit)
        assert 0 < low < 19_999
        estimates.add(low)
    assert len(estimates) == 1, estimates


async def costs_more_than(
    plane: SqlPlane, relations: Mapping[str, sql.Composable], text: str, cost: float
) -> bool:
    limits = QueryLimits(seconds=2.0, cost=cost)
    try:
        await run_query(plane.database, plane.intruder, relations, text, limits)
    except Unprocessable as refused:
        if refused.error_code != "sql_too_costly":
            raise
        return True
    return False
