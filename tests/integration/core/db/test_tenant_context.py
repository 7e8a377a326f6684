"""The tenant's scope as an attacker with any SQL meets it, as the roles of production."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from tenantplane.core.db.context_keys import install_context_key, retire_context_key
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database, TenantCursor
from tenantplane.core.db.proof import make_proof
from tenantplane.core.db.provision import Provisioned
from tenantplane.core.errors import Conflict, NotFound
from tests.fixtures.postgres import MakeDatabase, ProvisionDatabase

TOY_PLANE = Path(__file__).parent / "toy_plane"
COUNT_NOTES = system_job("tests.count-notes", "counts all orgs' notes in this test")


async def write_note(database: Database, org: str, body: str) -> None:
    async with database.tenant_tx(org) as cursor:
        await cursor.execute("INSERT INTO note (org_id, body) VALUES (%s, %s)", (org, body))


async def bodies(cursor: TenantCursor) -> list[str]:
    rows = await (await cursor.execute("SELECT body FROM note ORDER BY body")).fetchall()
    return [row["body"] for row in rows]


@pytest.fixture
async def database(make_database: MakeDatabase) -> Database:
    made = await make_database("data", TOY_PLANE)
    await write_note(made, "acme", "of acme")
    await write_note(made, "globex", "of globex")
    return made


@pytest.mark.req("R1", "R2")
async def test_a_tenant_sees_its_own_rows_alone(database: Database) -> None:
    async with database.tenant_tx("acme") as cursor:
        assert cursor.org_id == "acme"
        assert await bodies(cursor) == ["of acme"]
    async with database.tenant_tx("globex") as cursor:
        assert await bodies(cursor) == ["of globex"]


@pytest.mark.req("R1")
@pytest.mark.fault("F15")
async def test_a_forgotten_scope_sees_nothing_and_writes_nothing(database: Database) -> None:
    async with database.unscoped_tx() as cursor:
        assert await (await cursor.execute("SELECT * FROM note")).fetchall() == []
        assert (await cursor.execute("UPDATE note SET body = 'x'")).rowcount == 0
        assert (await cursor.execute("DELETE FROM note")).rowcount == 0
        with pytest.raises(InsufficientPrivilege, match="row-level security"):
            await cursor.execute("INSERT INTO note (org_id, body) VALUES ('acme', 'x')")


@pytest.mark.req("R1")
async def test_a_row_of_another_org_cannot_be_written(database: Database) -> None:
    with pytest.raises(InsufficientPrivilege, match="row-level security"):
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute("INSERT INTO note (org_id, body) VALUES ('globex', 'x')")


@pytest.mark.fault("F23")
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("UPDATE note SET org_id = 'globex'", "row-level security"),
        ("TRUNCATE note", "permission denied"),
        ("COPY note FROM STDIN", "COPY FROM not supported with row-level security"),
        ("ALTER TABLE note DISABLE ROW LEVEL SECURITY", "must be owner"),
        ("DROP POLICY tenant ON note", "must be owner"),
        ("CREATE TABLE public.mine (x int)", "permission denied"),
    ],
)
async def test_writes_around_the_policy_are_refused(
    database: Database, attack: str, message: str
) -> None:
    with pytest.raises(psycopg.Error, match=message):
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute(attack.encode())


@pytest.mark.fault("F23")
async def test_copy_out_carries_the_tenants_rows_alone(database: Database) -> None:
    async with (
        database.tenant_tx("acme") as cursor,
        cursor.copy("COPY (SELECT body FROM note) TO STDOUT") as copy,
    ):
        assert [row async for row in copy.rows()] == [("of acme",)]


@pytest.mark.fault("F21")
async def test_a_reference_into_another_org_is_a_violation(database: Database) -> None:
    async with database.tenant_tx("globex") as cursor:
        row = await (await cursor.execute("SELECT id FROM note")).fetchone()
        assert row is not None
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute(
                "INSERT INTO comment (org_id, note_id) VALUES ('acme', %s)", (row["id"],)
            )


def forged_contexts(provisioned: Provisioned, now: int) -> dict[str, tuple[str, str]]:
    key_id = provisioned.settings.context_key_id
    key = provisioned.settings.context_key_bytes()
    mine = make_proof(key_id, key, "globex", now + 60)
    return {
        "none": ("acme", ""),
        "garbage": ("acme", "k1.9999999999.00"),
        "another org's": ("acme", mine),
        "expired": ("acme", make_proof(key_id, key, "acme", now - 1)),
        "stretched": (
            "acme",
            make_proof(key_id, key, "acme", now - 1).replace(f".{now - 1}.", f".{now + 60}."),
        ),
        "another key's": ("acme", make_proof(key_id, secrets.token_bytes(32), "acme", now + 60)),
        "unknown key's": ("acme", make_proof("k9", key, "acme", now + 60)),
        "upper case": ("acme", make_proof(key_id, key, "acme", now + 60).upper()),
    }


async def attack_as_globex(database: Database, context: tuple[str, str], query: str) -> None:
    async with database.tenant_tx("globex") as cursor:
        await cursor.execute(
            "SELECT set_config('app.current_tenant', %s, true),"
            " set_config('app.tenant_proof', %s, true)",
            context,
        )
        await cursor.execute(query.encode())


@pytest.mark.req("R3")
@pytest.mark.fault("F14", "F15")
async def test_a_context_without_a_good_proof_is_refused(
    provision_database: ProvisionDatabase,
) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    database = Database(provisioned.settings, name="data")
    await database.open()
    try:
        for what, context in forged_contexts(provisioned, int(database.clock.unix())).items():
            for query in ("SELECT * FROM note", "INSERT INTO note VALUES ('acme', uuidv7(), 'x')"):
                with pytest.raises(InsufficientPrivilege) as refused:
                    await attack_as_globex(database, context, query)
                assert "tenant context refused" in str(refused.value), what
        async with database.tenant_tx("globex") as cursor:
            await cursor.execute("SELECT set_config('app.current_tenant', '', true)")
            assert await (await cursor.execute("SELECT * FROM note")).fetchall() == []
    finally:
        await database.close()


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    "attack",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SELECT pg_cancel_backend(pg_backend_pid())",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1)",
        "SELECT lo_creat(-1)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT query FROM pg_stat_activity",
        "SELECT indexdef FROM pg_indexes",
        "SELECT indpred FROM pg_index",
        "CREATE TEMP TABLE note (x int)",
        "SELECT * FROM tp.context_key",
        "SELECT tp.verify_proof('acme', '')",
        "SELECT tp.role_name('owner')",
        "SELECT * FROM tp.migration",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
async def test_injected_sql_is_refused(database: Database, attack: str) -> None:
    with pytest.raises(InsufficientPrivilege, match="permission denied"):
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute(attack.encode())


@pytest.mark.fault("F14")
async def test_app_cannot_become_another_role(provision_database: ProvisionDatabase) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    database = Database(provisioned.settings, name="data")
    await database.open()
    try:
        for kind in ("owner", "system", "backup"):
            role = psycopg.sql.Identifier(provisioned.bootstrapped.role(kind))
            with pytest.raises(InsufficientPrivilege, match="permission denied to set role"):
                async with database.tenant_tx("acme") as cursor:
                    await cursor.execute(psycopg.sql.SQL("SET ROLE {}").format(role))
    finally:
        await database.close()


@pytest.mark.fault("F14")
async def test_sql_of_a_model_reads_the_tenant_and_cannot_change_it(
    provision_database: ProvisionDatabase,
) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    query = psycopg.sql.SQL("SET LOCAL ROLE {}").format(
        psycopg.sql.Identifier(provisioned.bootstrapped.role("query"))
    )
    database = Database(provisioned.settings, name="data")
    await database.open()
    try:
        await write_note(database, "acme", "of acme")
        await write_note(database, "globex", "of globex")
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute(query)
            assert await bodies(cursor) == ["of acme"]
            with pytest.raises(InsufficientPrivilege, match="permission denied for function"):
                await cursor.execute("SELECT set_config('app.current_tenant', 'globex', true)")
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute(query)
            with pytest.raises(InsufficientPrivilege, match="permission denied for table"):
                await cursor.execute("DELETE FROM note")
    finally:
        await database.close()


async def test_a_system_job_sees_all_orgs_by_its_own_policy(database: Database) -> None:
    async with database.system_tx(COUNT_NOTES) as cursor:
        row = await (
            await cursor.execute(
                "SELECT count(*) AS n, current_setting('application_name') AS job FROM note"
            )
        ).fetchone()
        assert row == {"n": 2, "job": COUNT_NOTES}
    with pytest.raises(InsufficientPrivilege):  # SELECT alone was allowed
        async with database.system_tx(COUNT_NOTES) as cursor:
            await cursor.execute("DELETE FROM note")
    with pytest.raises(LookupError, match="not a registered system job"):
        async with database.system_tx("tests.unheard-of"):
            pytest.fail("entered")


async def test_two_keys_are_valid_while_one_replaces_the_other(
    provision_database: ProvisionDatabase,
) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    owner, settings = provisioned.owner_dsn, provisioned.settings
    new_key = secrets.token_bytes(32)
    await install_context_key(owner, "k2", new_key)
    await install_context_key(owner, "k2", new_key)
    with pytest.raises(Conflict, match="other bytes"):
        await install_context_key(owner, "k2", secrets.token_bytes(32))
    rolled = settings.model_copy(
        update={"context_key_id": "k2", "context_key": type(settings.context_key)(new_key.hex())}
    )
    old, new = Database(settings, name="old"), Database(rolled, name="new")
    try:
        await old.open()
        await new.open()
        await write_note(old, "acme", "1")
        await write_note(new, "acme", "2")
        await retire_context_key(owner, "k1", after=timedelta())
        with pytest.raises(InsufficientPrivilege, match="tenant context refused"):
            await write_note(old, "acme", "3")
        async with new.tenant_tx("acme") as cursor:
            assert await bodies(cursor) == ["1", "2"]
        with pytest.raises(NotFound):
            await retire_context_key(owner, "k9")
    finally:
        await old.close()
        await new.close()
