"""Row-level security alone: with every verb granted, and no filter in any statement."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.fixtures.isolation import PlaneDatabase, Refusal, Seen, TwoTenants
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation.declared import VERBS, may
from tests.proofs.isolation.table_cases import TENANT_TABLES, TableCase
from tests.proofs.isolation.two_orgs import Opened, Two, opened, states

pytestmark = pytest.mark.proof

REFUSED = "42501"
REFERRED_TO = "23503"  # other rows refer to it: so it was there, and to be changed
ALREADY_THERE = "23505"
_NOTHING = Seen(0, [])


async def _grant_everything(two: Two, inside: Opened, kind: str) -> None:
    for text in (
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}",
    ):
        await inside.open(two.query(text, schema=two.schema, role=inside.role(kind)))


@pytest.mark.req("R1", "R6")
@pytest.mark.fault("F23")
async def test_app_reads_and_changes_its_own_rows_whatever_is_granted(
    two: Two, proof_cases: ProofCases
) -> None:
    own = await two.rows_of(two.intruder)
    victims = Jsonb((await two.rows_of(two.victim))[0])
    async with opened(two.database) as inside:
        await _grant_everything(two, inside, "app")
        await inside.become("app", two.intruder)
        seen = await inside.attempt(two.query("SELECT to_jsonb(t) AS row FROM {table} t"))
        assert isinstance(seen, Seen), seen
        assert sorted(str(r["row"]) for r in seen.rows) == sorted(map(str, own))
        for text in (
            "UPDATE {table} SET org_id = org_id WHERE org_id = %s",
            "UPDATE {table} t SET org_id = t.org_id FROM (VALUES (%s)) v (org)"
            " WHERE t.org_id = v.org",
            "DELETE FROM {table} WHERE org_id = %s",
            "DELETE FROM {table} t USING (VALUES (%s)) v (org) WHERE t.org_id = v.org",
            "MERGE INTO {table} t USING (VALUES (%s)) v (org) ON t.org_id = v.org"
            " WHEN MATCHED THEN DELETE",
            "MERGE INTO {table} t USING (VALUES (%s)) v (org) ON t.org_id = v.org"
            " WHEN MATCHED THEN UPDATE SET org_id = t.org_id",
        ):
            assert await inside.attempt(two.query(text), two.victim) == _NOTHING, text
        changed = await inside.attempt(two.query("UPDATE {table} SET org_id = org_id"))
        assert changed == Seen(len(own), [])
        deleted = await inside.attempt(two.query("DELETE FROM {table}"))
        assert deleted == Seen(len(own), []) or states(deleted) == {REFERRED_TO}
        given = await inside.attempt(two.query("UPDATE {table} SET org_id = %s"), two.victim)
        planted = await inside.attempt(two.insert(), victims)
        assert states(given, planted) == {REFUSED}
        assert "row-level security" in str(given)
        assert "row-level security" in str(planted)
        for tail in (" ON CONFLICT DO NOTHING", " RETURNING 1"):
            assert states(await inside.attempt(two.insert() + two.query(tail), victims)) == {
                REFUSED
            }
    proof_cases.add(13)


@pytest.mark.req("R1", "R2")
@pytest.mark.fault("F15")
async def test_without_a_tenant_nothing_is_there_whatever_is_granted(
    two: Two, proof_cases: ProofCases
) -> None:
    """Zero rows, and no error: a forgotten scope is empty."""
    row = Jsonb((await two.rows_of(two.victim))[0])
    async with opened(two.database) as inside:
        for kind in ("app", "query"):
            await _grant_everything(two, inside, kind)
            await inside.become(kind)
            for text in (
                "SELECT 1 FROM {table}",
                "UPDATE {table} SET org_id = org_id",
                "DELETE FROM {table}",
            ):
                assert await inside.attempt(two.query(text)) == _NOTHING, (kind, text)
            assert states(await inside.attempt(two.insert(), row)) == {REFUSED}
    proof_cases.add(8)


@pytest.mark.req("R3")
@pytest.mark.fault("F14")
async def test_sql_of_a_model_reads_ones_own_where_it_may_and_changes_nothing(
    two: Two, proof_cases: ProofCases
) -> None:
    readable = "SELECT" in may(two.case.database, two.case.table, "query")
    own = await two.rows_of(two.intruder) if readable else []
    async with opened(two.database) as inside:
        await _grant_everything(two, inside, "query")
        await inside.become("query", two.intruder)
        seen = await inside.attempt(two.query("SELECT to_jsonb(t) AS row FROM {table} t"))
        assert isinstance(seen, Seen), seen
        assert sorted(str(r["row"]) for r in seen.rows) == sorted(map(str, own))
        for text in ("UPDATE {table} SET org_id = org_id", "DELETE FROM {table}"):
            assert await inside.attempt(two.query(text)) == _NOTHING, text
        row = Jsonb((await two.rows_of(two.intruder))[0])
        assert states(await inside.attempt(two.insert(), row)) == {REFUSED}
    proof_cases.add(4)


@pytest.mark.req("R1")
async def test_system_jobs_do_what_their_policies_say_whatever_is_granted(
    two: Two, proof_cases: ProofCases
) -> None:
    verbs = may(two.case.database, two.case.table, "system")
    rows = await two.rows_of(two.victim)
    async with opened(two.database) as inside:
        await _grant_everything(two, inside, "system")
        await inside.become("system")
        reads = "SELECT" in verbs
        for verb, text in (
            ("SELECT", "SELECT 1 FROM {table} WHERE org_id = %s"),
            ("UPDATE", "UPDATE {table} SET org_id = org_id WHERE org_id = %s"),
            ("DELETE", "DELETE FROM {table} WHERE org_id = %s"),
        ):
            done = await inside.attempt(two.query(text), two.victim)
            if verb in verbs and reads:
                found = isinstance(done, Seen) and done.count == len(rows)
                assert found or states(done) == {REFERRED_TO}, (verb, done)
            else:
                assert done == _NOTHING, (verb, done)
        again = await inside.attempt(two.insert(), Jsonb(rows[0]))
        wanted = ALREADY_THERE if "INSERT" in verbs else REFUSED
        assert states(again) == {wanted}, again
    proof_cases.add(len(VERBS))


@pytest.mark.req("R1")
@pytest.mark.fault("F18")
async def test_the_owner_is_bound_by_policies_and_sees_all_by_its_own(
    two: Two, proof_cases: ProofCases
) -> None:
    """FORCE: without its explicit policy even the owner has no rows."""
    async with opened(two.database) as inside:
        await inside.become("owner")
        own = Jsonb((await two.rows_of(two.intruder))[0])
        assert states(await inside.attempt(two.insert(), own)) == {ALREADY_THERE}
        await inside.open(two.query("DROP POLICY IF EXISTS migrations ON {table}"))
        await inside.become("owner", two.intruder)
        for text in ("SELECT 1 FROM {table}", "UPDATE {table} SET org_id = org_id"):
            assert await inside.attempt(two.query(text)) == _NOTHING, text
        refused = await inside.attempt(two.insert(), own)
        assert isinstance(refused, Refusal)
        assert refused.sqlstate == REFUSED
    proof_cases.add(6)


@pytest.mark.req("R1")
@pytest.mark.parametrize("case", TENANT_TABLES, ids=str)
async def test_a_backfill_of_a_migration_changes_every_row(
    isolation_databases: Mapping[str, PlaneDatabase],
    two_tenants: TwoTenants,
    case: TableCase,
    proof_cases: ProofCases,
) -> None:
    """FORCE silences the owner too: without its own policy it would change none, and say nothing."""
    count = sql.SQL("SELECT count(*) AS n FROM {}").format(case.name)
    async with opened(isolation_databases[case.database]) as inside:
        if case.made_here:
            org_id = f"gone-{secrets.token_hex(4)}"
            await inside.open(
                sql.SQL(
                    "INSERT INTO {table} SELECT (jsonb_populate_record(NULL::{table},"
                    " %s::jsonb || jsonb_build_object('org_id', %s::text))).*"
                ).format(table=case.name),
                case.made_of.replace("{org}", org_id),
                org_id,
            )
        there = await inside.attempt(count)
        assert isinstance(there, Seen)
        assert there.rows[0]["n"] > 0
        await inside.become("owner")
        assert await inside.attempt(count) == there
        changed = await inside.attempt(sql.SQL("UPDATE {} SET org_id = org_id").format(case.name))
        assert changed == Seen(there.rows[0]["n"], [])
    proof_cases.add(2)
