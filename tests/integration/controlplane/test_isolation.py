"""Tenant tables of the control plane under production's roles: no scope, no rows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio

from tenantplane.core.db.pool import Database
from tests.fixtures.controlplane import ControlPlaneProcess, unique
from tests.fixtures.oidc import OidcIssuer

TENANT_TABLES = (
    "admin_event",
    "api_key",
    "audit_commitment",
    "cap_raise",
    "issuer",
    "level_spend",
    "org",
    "org_entitlement",
    "org_role_bound",
    "plane_usage",
    "purged_org",
    "snapshot",
    "spend_alert",
    "usage_event",
)
READABLE = tuple(sorted(set(TENANT_TABLES) - {"admin_event", "plane_usage", "purged_org"}))


@pytest_asyncio.fixture(loop_scope="session")
async def database(control_plane: ControlPlaneProcess) -> AsyncIterator[Database]:
    opened = Database(control_plane.provisioned.settings, name="control")
    await opened.open()
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def two_orgs(control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer) -> tuple[str, str]:
    """Two tenants with rows in the registry's tables."""
    region = unique("region")
    await control_plane.plane(region)
    plan = await control_plane.plan()
    orgs = []
    for _ in range(2):
        issuer = {"type": "oidc", "issuer": oidc_issuer.issuer, "audience": unique("audience")}
        org_id = await control_plane.tenant(
            plan,
            region=region,
            identity={"issuers": [issuer]},
            entitlements={
                "tools": {"allow": ["search"]},
                "roleBound": [{"role": "admin", "tools": ["search"]}],
            },
        )
        await control_plane.api_key(org_id)
        raised = await control_plane.http.post(
            f"/v1/tenants/{org_id}/raises", json={"extraUSD": "1"}
        )
        assert raised.status_code == 201, raised.text
        orgs.append(org_id)
    return orgs[0], orgs[1]


async def test_the_list_of_tenant_tables_is_whole(database: Database) -> None:
    async with database.unscoped_tx() as cursor:
        await cursor.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'controlplane'::regnamespace AND c.relkind IN ('r', 'p')"
            " AND a.attname = 'org_id' ORDER BY 1"
        )
        found = tuple(row["relname"] for row in await cursor.fetchall())
    assert found == TENANT_TABLES


@pytest.mark.req("R1")
@pytest.mark.parametrize("table", READABLE)
async def test_a_forgotten_scope_reads_no_rows(
    database: Database, two_orgs: tuple[str, str], table: str
) -> None:
    query = psycopg.sql.SQL("SELECT org_id FROM controlplane.{}").format(
        psycopg.sql.Identifier(table)
    )
    async with database.unscoped_tx() as cursor:
        await cursor.execute(query)
        assert await cursor.fetchall() == []
    async with database.tenant_tx(two_orgs[0]) as cursor:
        await cursor.execute(query)
        assert {row["org_id"] for row in await cursor.fetchall()} <= {two_orgs[0]}


@pytest.mark.req("R1")
@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_the_tenants_role_writes_nothing_here(
    database: Database, two_orgs: tuple[str, str], table: str
) -> None:
    for verb in ("DELETE FROM controlplane.{}", "UPDATE controlplane.{} SET org_id = org_id"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with database.tenant_tx(two_orgs[0]) as cursor:
                await cursor.execute(psycopg.sql.SQL(verb).format(psycopg.sql.Identifier(table)))


async def test_rows_are_there_for_their_own_tenant(
    database: Database, two_orgs: tuple[str, str]
) -> None:
    async with database.tenant_tx(two_orgs[0]) as cursor:
        for table in (
            "api_key",
            "cap_raise",
            "issuer",
            "org",
            "org_entitlement",
            "org_role_bound",
            "snapshot",
        ):
            await cursor.execute(
                psycopg.sql.SQL("SELECT count(*) AS rows FROM controlplane.{}").format(
                    psycopg.sql.Identifier(table)
                )
            )
            assert await cursor.fetchone() == {"rows": 1}, table
