"""A service refuses to start on a database that is not safe, and says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from tenantplane.core.db.context_keys import install_context_key, retire_context_key
from tenantplane.core.db.doctor import Finding, inspect
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.pool import Database
from tenantplane.core.db.provision import Provisioned
from tenantplane.core.errors import ConfigurationRefused
from tests.fixtures.postgres import MakeDatabase, ProvisionDatabase

TOY_PLANE = Path(__file__).parent / "toy_plane"


@dataclass
class Workbench:
    """A provisioned database, and the owner's and the administrator's hands on it."""

    provisioned: Provisioned
    admin_dsn: str

    async def as_owner(self, statement: str) -> None:
        await self._run(self.provisioned.owner_dsn, statement)

    async def as_admin(self, statement: str) -> None:
        await self._run(self.admin_dsn, statement)

    def role(self, kind: str) -> str:
        return self.provisioned.bootstrapped.role(kind)

    async def _run(self, dsn: str, statement: str) -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute(statement.encode())

    async def has_extension(self, name: str) -> bool:
        async with await psycopg.AsyncConnection.connect(self.admin_dsn) as connection:
            found = await connection.execute(
                "SELECT FROM pg_available_extensions WHERE name = %s", (name,)
            )
            return await found.fetchone() is not None

    async def refusal(self, **settings: SecretStr) -> str:
        changed = self.provisioned.settings.model_copy(update=settings)
        with pytest.raises(ConfigurationRefused) as refused:
            await Database(changed, name="data").open()
        assert refused.value.hint
        return str(refused.value)


@pytest.fixture
async def bench(provision_database: ProvisionDatabase, postgres: EmbeddedPostgres) -> Workbench:
    provisioned = await provision_database("data", TOY_PLANE)
    return Workbench(provisioned, postgres.admin_dsn(provisioned.bootstrapped.dbname))


async def test_a_sound_database_has_nothing_to_refuse(make_database: MakeDatabase) -> None:
    database = await make_database("data", TOY_PLANE)
    assert await inspect(database) == []


@pytest.mark.fault("F19")
async def test_the_owner_is_refused(bench: Workbench) -> None:
    said = await bench.refusal(app_dsn=SecretStr(bench.provisioned.owner_dsn))
    assert f"connect as {bench.role('app')}" in said


@pytest.mark.fault("F19")
async def test_a_superuser_is_refused(bench: Workbench) -> None:
    for which in ("app_dsn", "system_dsn"):
        assert "has SUPERUSER" in await bench.refusal(**{which: SecretStr(bench.admin_dsn)})


@pytest.mark.fault("F19")
async def test_a_role_that_bypasses_policies_is_refused(bench: Workbench) -> None:
    said = await bench.refusal(system_dsn=SecretStr(bench.provisioned.backup_dsn))
    assert "has BYPASSRLS" in said


@pytest.mark.fault("F19")
async def test_app_and_system_exchanged_are_refused(bench: Workbench) -> None:
    settings = bench.provisioned.settings
    said = await bench.refusal(app_dsn=settings.system_dsn, system_dsn=settings.app_dsn)
    assert "is not the app role" in said


@pytest.mark.fault("F19")
async def test_a_membership_that_opens_all_tables_is_refused(bench: Workbench) -> None:
    await bench.as_admin(f"GRANT pg_read_all_data TO {bench.role('app')}")
    assert "is a member of pg_read_all_data" in await bench.refusal()


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ALTER TABLE note NO FORCE ROW LEVEL SECURITY", "no forced row-level security"),
        ("ALTER TABLE note DISABLE ROW LEVEL SECURITY", "no forced row-level security"),
        ("CREATE TABLE bare (org_id text NOT NULL)", "no forced row-level security"),
        ("DROP POLICY tenant ON note", "no policy for app on all commands"),
        ("CREATE POLICY wide ON note FOR SELECT TO PUBLIC USING (true)", "by another rule"),
        ("ALTER POLICY tenant ON note USING (true)", "by another rule"),
        ("ALTER POLICY tenant_query ON note USING (true)", "by another rule"),
        ("ALTER TABLE note ALTER org_id SET DEFAULT 'acme'", "without a default"),
        ("ALTER TABLE note ALTER org_id DROP NOT NULL", None),
        ("CREATE TABLE leak (x int); GRANT SELECT ON leak TO {app}", "has no org_id and is open"),
        ("CREATE TABLE leak (x int); GRANT SELECT (x) ON leak TO {app}", "is open to app"),
        ("CREATE TABLE leak (x int); GRANT DELETE ON leak TO {query}", "is open to app"),
        ("CREATE TABLE leak (x int); GRANT SELECT ON leak TO PUBLIC", "granted to PUBLIC"),
        ("GRANT SELECT ON tp.context_key TO {app}", "has no org_id and is open"),
        ("GRANT TRUNCATE ON note TO {app}", "TRUNCATE"),
        ("CREATE POLICY other ON note TO pg_monitor USING (true)", "is for pg_monitor"),
        ("GRANT SELECT ON note TO pg_monitor", "is granted to pg_monitor"),
        ("GRANT UPDATE ON note TO {query}", "lets the query role write"),
        ("GRANT SELECT ON comment TO {query}", "was not opened by tp.allow_query"),
        ("GRANT SELECT (id) ON comment TO {query}", "was not opened by tp.allow_query"),
        ("DROP POLICY tenant_query ON note", "was not opened by tp.allow_query"),
        (
            "DROP POLICY tenant ON note; CREATE POLICY tenant ON note AS RESTRICTIVE TO {app}"
            " USING (org_id = (SELECT tp.current_org()))",
            "no policy for app on all commands",
        ),
        (
            "DROP POLICY tenant ON note; CREATE POLICY tenant ON note FOR SELECT TO {app}"
            " USING (org_id = (SELECT tp.current_org()))",
            "no policy for app on all commands",
        ),
        ("CREATE TABLE child () INHERITS (note)", "public.child: has org_id but no forced"),
        (
            "CREATE TABLE part (org_id text NOT NULL, x int) PARTITION BY LIST (x);"
            "SELECT tp.protect('part'); CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1)",
            "public.part_1: has org_id but no forced",
        ),
        ("CREATE TABLE odd (org_id varchar NOT NULL)", "org_id must be text"),
        ("CREATE UNIQUE INDEX ON note (body)", "does not begin with org_id"),
        (
            "CREATE TABLE lone (note_org text, note_id uuid,"
            " FOREIGN KEY (note_org, note_id) REFERENCES note (org_id, id))",
            "ties a table of no tenant to a tenant's rows",
        ),
        (
            "ALTER TABLE comment ADD FOREIGN KEY (org_id, note_id) REFERENCES note (org_id, id)"
            " NOT VALID",
            "is NOT VALID",
        ),
        (
            "ALTER TABLE comment ADD UNIQUE (id, org_id)",
            "unique key comment_id_org_id_key does not begin with org_id",
        ),
    ],
)
async def test_an_unprotected_table_is_refused(
    bench: Workbench, change: str, message: str | None
) -> None:
    if message is None:  # part of the primary key: Postgres itself refuses
        with pytest.raises(psycopg.errors.InvalidTableDefinition):
            await bench.as_owner(change)
        return
    await bench.as_owner(change.format(app=bench.role("app"), query=bench.role("query")))
    assert message in await bench.refusal()


@pytest.mark.fault("F21")
async def test_a_foreign_key_without_the_org_is_refused(bench: Workbench) -> None:
    await bench.as_owner(
        "CREATE TABLE child (org_id text NOT NULL, id uuid, other text, note_id uuid,"
        " PRIMARY KEY (org_id, id),"
        " FOREIGN KEY (other, note_id) REFERENCES note (org_id, id));"
        "SELECT tp.protect('child')"
    )
    assert "does not begin with org_id on both sides" in await bench.refusal()


@pytest.mark.fault("F20")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("CREATE VIEW v AS SELECT * FROM note", "security_invoker"),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM note", "is materialised"),
        (
            "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
            " SET search_path = public AS 'SELECT count(*) FROM note'",
            "not on the list",
        ),
        (
            "ALTER FUNCTION append_notes(text[], text[], text[]) RESET search_path",
            "without a fixed search_path",
        ),
        (
            "ALTER FUNCTION append_notes(text[], text[], text[]) SET search_path = pg_catalog",
            "pg_temp last",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO {app};"
            "ALTER FUNCTION append_notes(text[], text[], text[]) SET search_path = public, pg_temp",
            "name closed schemas",
        ),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", "schema public: lets a service's role create"),
        ("CREATE SCHEMA mine; GRANT CREATE ON SCHEMA mine TO {query}", "schema mine: lets"),
        (
            "GRANT EXECUTE ON FUNCTION append_notes(text[], text[], text[]) TO {query}",
            "a model's SQL may call it",
        ),
        (
            "CREATE RULE spy AS ON INSERT TO comment DO ALSO DELETE FROM note",
            "public.comment: has a rule",
        ),
    ],
)
async def test_a_way_around_the_policies_is_refused(
    bench: Workbench, change: str, message: str
) -> None:
    await bench.as_owner(change.format(app=bench.role("app"), query=bench.role("query")))
    assert message in await bench.refusal()


@pytest.mark.fault("F20", "F21")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ALTER TABLE comment DISABLE TRIGGER ALL", "has a disabled trigger"),
        (
            "CREATE VIEW v WITH (security_invoker) AS SELECT * FROM note",
            "public.v: is not owned by the owner role",
        ),
        (
            "ALTER FUNCTION append_notes(text[], text[], text[]) OWNER TO CURRENT_USER",
            "not the owner role's",
        ),
        (
            "CREATE FUNCTION peek(text) RETURNS boolean LANGUAGE sql LEAKPROOF AS 'SELECT true'",
            "is LEAKPROOF",
        ),
        (
            "CREATE EXTENSION IF NOT EXISTS postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER"
            " postgres_fdw; CREATE FOREIGN TABLE away (org_id text NOT NULL) SERVER far",
            "public.away: has org_id but no forced",
        ),
        ("ALTER ROLE {query} LOGIN", "can log in"),
        ("ALTER ROLE {query} BYPASSRLS", "has powers beyond reading"),
        ("GRANT pg_read_all_data TO {query}", "is a member of pg_read_all_data"),
    ],
)
async def test_what_a_superuser_leaves_behind_is_refused(
    bench: Workbench, change: str, message: str
) -> None:
    if "postgres_fdw" in change and not await bench.has_extension("postgres_fdw"):
        change = change.replace("CREATE EXTENSION IF NOT EXISTS postgres_fdw; ", "")
        change = "CREATE FOREIGN DATA WRAPPER postgres_fdw; " + change
    await bench.as_admin(change.format(query=bench.role("query")))
    assert message in await bench.refusal()


@pytest.mark.req("R2")
@pytest.mark.fault("F15")
async def test_a_service_whose_context_key_is_not_accepted_does_not_start(
    bench: Workbench,
) -> None:
    said = await bench.refusal(context_key=SecretStr("ab" * 32))
    assert "context key k1: is not accepted" in said
    await install_context_key(bench.provisioned.owner_dsn, "k2", bytes(32))
    await retire_context_key(bench.provisioned.owner_dsn, "k1", after=timedelta())
    assert "context key k1: is not accepted" in await bench.refusal()


async def test_what_is_worth_knowing_is_a_warning(bench: Workbench) -> None:
    await install_context_key(bench.provisioned.owner_dsn, "k2", bytes(32))
    await retire_context_key(bench.provisioned.owner_dsn, "k1", after=timedelta(hours=1))
    await bench.as_admin("CREATE PUBLICATION all_of_it FOR TABLE note")
    database = Database(bench.provisioned.settings, name="data")
    await database.open()
    try:
        found = {f.subject: (f.severity, f.check) for f in await inspect(database)}
        assert found == {
            "publication all_of_it": ("warn", "ways around"),
            "context key k1": ("warn", "context key"),
        }
    finally:
        await database.close()


async def test_a_view_with_the_callers_rights_is_welcome(bench: Workbench) -> None:
    await bench.as_owner("CREATE VIEW v WITH (security_invoker) AS SELECT * FROM note")
    database = Database(bench.provisioned.settings, name="data")
    await database.open()
    await database.close()


async def test_a_database_without_migrations_is_refused(bench: Workbench) -> None:
    await bench.as_owner("DROP TABLE tp.reviewed")
    assert "run the bootstrap and the migrations" in await bench.refusal()


async def test_a_server_that_may_lose_commits_is_refused(bench: Workbench) -> None:
    await bench.as_admin(f"ALTER ROLE {bench.role('app')} SET synchronous_commit = off")
    assert "synchronous_commit off" in await bench.refusal()


async def test_what_public_may_still_do_is_a_warning(bench: Workbench) -> None:
    await bench.as_admin("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC")
    await bench.as_owner("CREATE INDEX by_body ON note (body)")
    database = Database(bench.provisioned.settings, name="data")
    await database.open()
    try:
        findings = await inspect(database)
        assert [(f.severity, f.subject) for f in findings] == [
            ("warn", "pg_advisory_lock(bigint)"),
            ("warn", "public.note"),
        ]
        assert all(isinstance(f, Finding) for f in findings)
    finally:
        await database.close()
