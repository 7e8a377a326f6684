"""What the bootstrap took from everybody, and what the roles are not: each thing is tried."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Final, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fixtures.isolation import PlaneDatabase, Refusal, Seen, TwoTenants
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation.two_orgs import Opened, opened

pytestmark = [pytest.mark.proof, pytest.mark.parametrize("name", ["control", "data"])]
Databases = Mapping[str, PlaneDatabase]

# By name alone, not by who may call it: whether somebody may is what is tried.
_CLOSED_TO_APP: Final = (
    r"^(pg_(try_)?advisory_.*|lo_.*|loread|lowrite|pg_cancel_backend|pg_terminate_backend"
    r"|pg_stat_get_activity|pg_stat_get_backend_activity|pg_get_indexdef)$"
)
_CLOSED_TO_QUERY: Final = (
    r"^(pg_.*|lo_.*|loread|lowrite|set_config|binary_upgrade_.*|has_.*_privilege"
    r"|row_security_active|current_(setting|query|schemas?|database|user)|session_user|user"
    r"|(query|cursor|table|schema|database)_to_xml.*|ts_stat|txid_.*|currtid.*"
    r"|inet_(client|server)_.*|to_reg.*|(obj|col|shobj)_description"
    r"|nextval|currval|lastval|setval|setseed|version|format_type)$"
)
_FUNCTIONS: Final[LiteralString] = """
SELECT p.oid::regprocedure::text AS signature, p.proname AS name, p.proretset AS is_set,
       ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) t) AS arguments
  FROM pg_proc p
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0
   AND p.proname ~ %s
   AND p.prorettype <> 'trigger'::regtype
   AND NOT 'internal'::regtype = ANY (p.proargtypes)
 ORDER BY 1
"""
_RELATIONS: Final[LiteralString] = """
SELECT c.oid::regclass::text AS name FROM pg_class c
 WHERE c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
   AND c.relkind IN ('r', 'v')
 ORDER BY 1
"""
# Functions of ours that a role may call; a definer among them is proved in test_definers.py.
_OPEN: Final = {
    "app": r"^(tp\.current_org|dataplane\.(append_\w+|latest_checkpoints|search_words"
    r"|claim_requests|advance_requests))\(",
    "query": r"^tp\.current_org\(",
}
_OURS: Final[LiteralString] = """
SELECT p.oid::regprocedure::text AS signature, format('%I.%I', n.nspname, p.proname) AS name,
       false AS is_set, ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) t) AS arguments
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^(pg_|information_schema$)' AND p.prokind = 'f'
   AND p.prorettype <> 'trigger'::regtype
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
 ORDER BY 1
"""


def _call(function: Mapping[str, object]) -> sql.Composed:
    """With NULLs that the planner cannot fold: it would answer for a strict function unasked."""
    arguments = function["arguments"]
    assert isinstance(arguments, list)
    names = sql.SQL(", ").join(sql.Identifier(f"a{n}") for n in range(len(arguments)))
    nulls = sql.SQL(", ").join(
        sql.SQL("NULL::{} AS {}").format(sql.SQL(kind), sql.Identifier(f"a{n}"))
        for n, kind in enumerate(arguments)
    )
    name = sql.Identifier(*str(function["name"]).split("."))
    rows = sql.SQL("(SELECT {} OFFSET 0) s").format(nulls if arguments else sql.SQL("1"))
    if function["is_set"]:
        return sql.SQL("SELECT f.* FROM {}, LATERAL {}({}) f").format(rows, name, names)
    return sql.SQL("SELECT {}({}) FROM {}").format(name, names, rows)


async def _not_refused(inside: Opened, functions: list[dict[str, object]]) -> list[object]:
    answered: list[object] = []
    for function in functions:
        done = await inside.attempt(_call(function))
        # Itself, and not something that it calls or reads.
        name = str(function["name"]).rpartition(".")[2].strip('"')
        denied = f"permission denied for function {name}"
        if not (isinstance(done, Refusal) and done.message == denied):
            answered.append((function["signature"], done))
    return answered


@pytest.mark.fault("F14")
async def test_dangerous_functions_and_catalogues_are_closed_to_app(
    isolation_databases: Databases, two_tenants: TwoTenants, name: str, proof_cases: ProofCases
) -> None:
    database = isolation_databases[name]
    functions = await database.look(_FUNCTIONS, _CLOSED_TO_APP)
    async with opened(database) as inside:
        await inside.become("app", two_tenants.intruder.org_id)
        assert await _not_refused(inside, functions) == []
        for text in ("SELECT indpred FROM pg_index", "SELECT * FROM pg_authid"):
            done = await inside.attempt(sql.SQL(text))
            assert isinstance(done, Refusal), text
            assert "permission denied" in done.message
    assert len(functions) > 40
    proof_cases.add(len(functions) + 2)


@pytest.mark.fault("F14")
async def test_dangerous_functions_and_catalogues_are_closed_to_sql_of_a_model(
    isolation_databases: Databases, two_tenants: TwoTenants, name: str, proof_cases: ProofCases
) -> None:
    database = isolation_databases[name]
    functions = await database.look(_FUNCTIONS, _CLOSED_TO_QUERY)
    relations = await database.look(_RELATIONS)
    async with opened(database) as inside:
        # Not by a closed schema: each is refused by itself.
        await inside.open(
            sql.SQL("GRANT USAGE ON SCHEMA information_schema TO {}").format(inside.role("query"))
        )
        await inside.become("query", two_tenants.intruder.org_id)
        assert await _not_refused(inside, functions) == []
        readable = []
        for relation in relations:
            table = sql.Identifier(*relation["name"].split("."))
            done = await inside.attempt(sql.SQL("SELECT FROM {} LIMIT 0").format(table))
            # Itself, and not a function or table that a view is made of.
            name = relation["name"].rpartition(".")[2]
            denied = [f"permission denied for {kind} {name}" for kind in ("table", "view")]
            if not (isinstance(done, Refusal) and done.message in denied):
                readable.append((relation["name"], done))
        assert readable == []
        for text in ("DO 'BEGIN END'", "DO LANGUAGE plpgsql 'BEGIN END'"):
            refused = await inside.attempt(sql.SQL(text))
            assert isinstance(refused, Refusal)
            assert "permission denied" in refused.message
    proof_cases.add(len(functions) + len(relations) + 2)


@pytest.mark.req("R3")
@pytest.mark.fault("F14", "F15")
async def test_functions_of_ours_that_nobody_was_given_are_closed(
    isolation_databases: Databases, two_tenants: TwoTenants, name: str, proof_cases: ProofCases
) -> None:
    """tp.verify_proof would let an attacker try codes; the others are for migrations."""
    database = isolation_databases[name]
    functions = await database.look(_OURS)
    async with opened(database) as inside:
        for role, open_to_it in _OPEN.items():
            closed = [f for f in functions if not re.match(open_to_it, f["signature"])]
            assert closed
            await inside.become(role, two_tenants.intruder.org_id)
            assert await _not_refused(inside, closed) == []
            proof_cases.add(len(closed))


@pytest.mark.fault("F14")
async def test_nothing_is_made_by_a_service(
    isolation_databases: Databases, two_tenants: TwoTenants, name: str, proof_cases: ProofCases
) -> None:
    """A table, function or temporary table of one's own could shadow another's."""
    database = isolation_databases[name]
    schemas = await database.look(
        "SELECT nspname AS name FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"
    )
    async with opened(database) as inside:
        for role in ("app", "system", "query"):
            await inside.become(role, two_tenants.intruder.org_id)
            for schema in schemas:
                table = sql.Identifier(schema["name"], "mine")
                done = await inside.attempt(sql.SQL("CREATE TABLE {} (x int)").format(table))
                assert isinstance(done, Refusal), (role, schema)
                proof_cases.add()
            for text in ("CREATE TEMP TABLE note (x int)", "CREATE SCHEMA mine"):
                done = await inside.attempt(sql.SQL(text))
                assert isinstance(done, Refusal), (role, text)
                proof_cases.add()


@pytest.mark.fault("F14")
async def test_a_stranger_with_a_login_does_not_get_in(
    isolation_databases: Databases, name: str, proof_cases: ProofCases
) -> None:
    """Such as a role of another plane on the same server."""
    database = isolation_databases[name]
    login, password = f"stranger_{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    async with await psycopg.AsyncConnection.connect(
        database.admin_dsn, autocommit=True
    ) as administrator:
        await administrator.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(login), sql.Literal(password)
            )
        )
        try:
            dsn = make_conninfo(database.admin_dsn, user=login, password=password)
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                await (await psycopg.AsyncConnection.connect(dsn)).close()
        finally:
            await administrator.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))
    proof_cases.add()


@pytest.mark.fault("F14", "F19")
async def test_app_has_no_powers_and_becomes_nobody_else(
    isolation_databases: Databases, two_tenants: TwoTenants, name: str, proof_cases: ProofCases
) -> None:
    database = isolation_databases[name]
    mine = two_tenants.intruder.org_id
    table = {"control": "controlplane.org", "data": "dataplane.thread"}[name]
    seen = await database.attempt(
        mine, sql.SQL("SELECT DISTINCT org_id FROM {}").format(sql.Identifier(*table.split(".")))
    )
    assert seen == Seen(1, [{"org_id": mine}])
    others = [database.provisioned.bootstrapped.role(k) for k in ("owner", "system", "backup")]
    attempts = [
        sql.SQL("CREATE ROLE mine_{}").format(sql.SQL(secrets.token_hex(4))),
        sql.SQL("ALTER DATABASE {} SET work_mem = '1GB'").format(
            sql.Identifier(database.provisioned.bootstrapped.dbname)
        ),
        *(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)) for role in others),
    ]
    for attempt in attempts:
        done = await database.attempt(mine, attempt)
        assert isinstance(done, Refusal), attempt
        assert done.sqlstate == "42501"
    # Not in a transaction, where even an administrator could not.
    async with await psycopg.AsyncConnection.connect(
        database.provisioned.settings.app_dsn.get_secret_value(), autocommit=True
    ) as app:
        try:
            await app.execute(
                sql.SQL("CREATE DATABASE {}").format(sql.Identifier(f"mine_{secrets.token_hex(4)}"))
            )
            pytest.fail("app made a database")
        except psycopg.errors.InsufficientPrivilege:
            pass
    proof_cases.add(len(attempts) + 2)
