"""No tenant reads, changes, takes, gives or infers another's rows, table by table."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tenantplane.core.db.proof import PROOF_LIFE_SECONDS, make_proof
from tests.fixtures.isolation import PlaneDatabase, Query, Seen, TwoTenants
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation import catalogue
from tests.proofs.isolation.table_cases import (
    OPEN_TO_APP,
    SHARED_TABLES,
    TENANT_TABLES,
    WHERE,
)
from tests.proofs.isolation.two_orgs import Two, states

REFUSED = "42501"  # insufficient_privilege
UNIQUE = "23505"

pytestmark = pytest.mark.proof
Databases = Mapping[str, PlaneDatabase]


@pytest.mark.req("R1", "R6")
@pytest.mark.parametrize("name", ["control", "data"])
async def test_every_table_has_its_case(isolation_databases: Databases, name: str) -> None:
    found = await catalogue.tables(isolation_databases[name])
    of_tenants = {table for table, row in found.items() if row["is_tenant_table"]}
    declared = {case.table for case in TENANT_TABLES if case.database == name}
    catalogue.require_declared(
        "A table with org_id", of_tenants, declared, f"TENANT_TABLES of {WHERE}"
    )
    catalogue.require_declared(
        "A table without org_id",
        set(found) - of_tenants,
        SHARED_TABLES[name],
        f"SHARED_TABLES of {WHERE}, with the reason, where it cannot have one",
    )


@pytest.mark.req("R6")
@pytest.mark.parametrize("name", ["control", "data"])
async def test_app_may_do_what_the_cases_say_and_no_more(
    isolation_databases: Databases, name: str, proof_cases: ProofCases
) -> None:
    found = await catalogue.tables(isolation_databases[name])
    may = {case.table: case.app_may for case in TENANT_TABLES if case.database == name}
    may |= {table: OPEN_TO_APP.get(table, "") for table in SHARED_TABLES[name]}
    assert {table: row["app_may"] for table, row in found.items()} == may
    for table in SHARED_TABLES[name]:
        if not table.startswith("tp."):
            assert found[table]["why"], f"{table} was not shared by tp.share, with a reason"
    proof_cases.add(len(found))


@pytest.mark.req("R6")
@pytest.mark.parametrize("table", OPEN_TO_APP)
async def test_a_shared_table_that_app_reads_names_no_tenant(
    isolation_databases: Databases, two_tenants: TwoTenants, table: str
) -> None:
    query = sql.SQL("SELECT to_jsonb(t)::text AS row FROM {} t").format(
        sql.Identifier(*table.split("."))
    )
    seen = await isolation_databases["control"].attempt(two_tenants.intruder.org_id, query)
    assert isinstance(seen, Seen)
    assert seen.count > 0
    text = str(seen.rows)
    tenants = (two_tenants.victim, two_tenants.intruder)
    assert not [name for tenant in tenants for name in tenant.names() if name in text]


@pytest.mark.req("R1", "R6")
async def test_only_ones_own_rows_are_read(two: Two, proof_cases: ProofCases) -> None:
    everything = await two.as_intruder("SELECT to_jsonb(t) AS row FROM {table} t")
    theirs = await two.as_intruder("SELECT 1 FROM {table} WHERE org_id = %s", two.victim)
    locked = await two.as_intruder(
        "SELECT 1 FROM {table} WHERE org_id = %s FOR KEY SHARE", two.victim
    )
    proof_cases.add(3)
    if not two.may("SELECT"):
        assert states(everything, theirs, locked) == {REFUSED}
        return
    own = await two.rows_of(two.intruder)
    assert isinstance(everything, Seen)
    assert sorted(map(str, (r["row"] for r in everything.rows))) == sorted(map(str, own))
    assert theirs == Seen(0, [])
    # A lock needs UPDATE; where app has it, there is no row to lock.
    assert locked == Seen(0, []) or states(locked) == {REFUSED}


@pytest.mark.req("R6")
@pytest.mark.fault("F23")
async def test_copy_takes_nothing_out_and_puts_nothing_in(
    two: Two, proof_cases: ProofCases
) -> None:
    proof_cases.add(2)
    async with two.database.as_app(two.intruder) as cursor:
        try:
            async with cursor.copy(two.query("COPY {table} TO STDOUT")) as copy:
                taken = b"".join([bytes(block) async for block in copy]).decode()
        except psycopg.errors.InsufficientPrivilege:
            taken = ""
    # Postgres lets COPY TO read what the policies let it read, and nothing else.
    assert two.victim not in taken
    # Under policies it reads ONLY the table, so nothing of a partitioned one.
    assert (two.intruder in taken) == (two.may("SELECT") and not two.case.partitioned)

    async with two.database.as_app(two.intruder) as cursor:
        with pytest.raises(
            (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)
        ):
            async with cursor.copy(two.query("COPY {table} FROM STDIN")):
                pytest.fail("COPY FROM began")


@pytest.mark.req("R6")
@pytest.mark.fault("F23")
async def test_rows_of_another_tenant_are_not_changed(two: Two, proof_cases: ProofCases) -> None:
    own = len(await two.rows_of(two.intruder))
    for verb, on_theirs, on_all in (
        (
            "UPDATE",
            "UPDATE {table} SET org_id = org_id WHERE org_id = %s",
            "UPDATE {table} SET org_id = org_id",
        ),
        ("DELETE", "DELETE FROM {table} WHERE org_id = %s", "DELETE FROM {table}"),
    ):
        theirs = await two.as_intruder(on_theirs, two.victim)
        everything = await two.as_intruder(on_all)
        if two.may(verb):
            assert theirs == Seen(0, []), verb
            # The statement works, on one's own: so the rows above were really out of reach.
            assert everything == Seen(own, []), verb
        else:
            assert states(theirs, everything) == {REFUSED}, verb
        proof_cases.add(2)
    truncated = await two.as_intruder("TRUNCATE {table} CASCADE")
    assert states(truncated) == {REFUSED}
    proof_cases.add(1)


@pytest.mark.req("R6")
@pytest.mark.fault("F23")
async def test_rows_do_not_change_hands(two: Two, proof_cases: ProofCases) -> None:
    given = await two.as_intruder("UPDATE {table} SET org_id = %s", two.victim)
    taken = await two.as_intruder(
        "UPDATE {table} SET org_id = %s WHERE org_id = %s", two.intruder, two.victim
    )
    proof_cases.add(2)
    assert states(given) == {REFUSED}
    if two.may("UPDATE"):
        assert taken == Seen(0, [])
    else:
        assert states(taken) == {REFUSED}


@pytest.mark.req("R6")
@pytest.mark.fault("F22")
async def test_an_insert_is_refused_alike_whether_the_row_exists_or_not(
    two: Two, proof_cases: ProofCases
) -> None:
    """A unique error would tell that the other's row is there."""
    existing = (await two.rows_of(two.victim))[0]
    nobody = two.victim[:-8] + secrets.token_hex(4)
    invented = {
        column: value.replace(two.victim, nobody) if isinstance(value, str) else value
        for column, value in existing.items()
    }
    answers = []
    for row in (existing, invented):
        for tail in ("", " ON CONFLICT DO NOTHING"):
            query = two.insert() + sql.SQL(tail)
            answers.append(await two.database.attempt(two.intruder, query, Jsonb(row)))
    proof_cases.add(len(answers))
    assert states(*answers) == {REFUSED}
    assert len(set(map(str, answers))) == 1
    if two.may("INSERT"):
        assert "row-level security" in str(answers[0])
        # One's own row again gets past the policy, to the unique key.
        own = Jsonb((await two.rows_of(two.intruder))[0])
        assert states(await two.database.attempt(two.intruder, two.insert(), own)) == {UNIQUE}


def _contexts(two: Two) -> dict[str, tuple[str, str] | None]:
    """Contexts that nobody may act in, each of them for the victim's rows."""
    settings = two.database.provisioned.settings
    key_id, key = settings.context_key_id, settings.context_key_bytes()
    now = int(time.time())
    good = two.database.pool.proof_for(two.victim)
    return {
        "never set": None,
        "empty": ("", ""),
        "without a proof": (two.victim, ""),
        "the intruder's proof": (two.victim, two.database.pool.proof_for(two.intruder)),
        "expired": (two.victim, make_proof(key_id, key, two.victim, now - 1)),
        "another key": (
            two.victim,
            make_proof(key_id, secrets.token_bytes(32), two.victim, now + PROOF_LIFE_SECONDS),
        ),
        "a key that is not there": (
            two.victim,
            make_proof("k9", key, two.victim, now + PROOF_LIFE_SECONDS),
        ),
        "a longer life than was signed": (two.victim, _with_expiry(good, now + 10_000)),
        "in other letters": (two.victim.upper(), good),
        "garbage": (two.victim, "....."),
    }


def _with_expiry(proof: str, expiry: int) -> str:
    key_id, _, code = proof.split(".")
    return f"{key_id}.{expiry}.{code}"


@pytest.mark.req("R1", "R2")
@pytest.mark.fault("F15")
async def test_without_a_proven_tenant_there_are_no_rows(two: Two, proof_cases: ProofCases) -> None:
    row = Jsonb((await two.rows_of(two.victim))[0])
    statements: list[tuple[Query, tuple[object, ...]]] = [
        (two.query("SELECT 1 FROM {table}"), ()),
        (two.query("UPDATE {table} SET org_id = org_id"), ()),
        (two.query("DELETE FROM {table}"), ()),
    ]
    for name, context in _contexts(two).items():
        for query, values in statements:
            answer = await two.database.attempt_in(context, query, *values)
            assert answer == Seen(0, []) or states(answer) == {REFUSED}, (name, query, answer)
        inserted = await two.database.attempt_in(context, two.insert(), row)
        assert states(inserted) == {REFUSED}, (name, inserted)
        proof_cases.add(len(statements) + 1)
    # With the proof that belongs to it the same statement works: the contexts were what failed.
    good = (two.victim, two.database.pool.proof_for(two.victim))
    seen = await two.database.attempt_in(good, two.query("SELECT 1 FROM {table}"))
    if two.may("SELECT"):
        assert isinstance(seen, Seen)
        assert seen.count == len(await two.rows_of(two.victim)) > 0
    else:
        assert states(seen) == {REFUSED}
