"""Every route of both planes against a tenant that reaches for another, through the real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from psycopg import sql

from tenantplane.dataplane.app import DataPlane
from tenantplane.dataplane.settings import DataPlaneSettings
from tests.fixtures.isolation import PlaneDatabase, TwoTenants
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation import catalogue, control_routes, data_routes
from tests.proofs.isolation.control_routes import CONTROL_ROUTES
from tests.proofs.isolation.data_routes import DATA_ROUTES
from tests.proofs.isolation.routes import Attack, Route, control_plane_routes, data_plane_routes
from tests.proofs.isolation.table_cases import TENANT_TABLES

pytestmark = pytest.mark.proof


def _id(route: Route) -> str:
    return " ".join(route)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def attack(two_tenants: TwoTenants) -> AsyncIterator[Attack]:
    peers = two_tenants.peers
    async with (
        httpx2.AsyncClient(base_url=peers.control.url, timeout=30) as control,
        httpx2.AsyncClient(base_url=peers.data.base_url, timeout=30) as data,
    ):
        yield Attack(
            two_tenants,
            two_tenants.victim.never_was(),
            await two_tenants.access_token(two_tenants.intruder),
            await two_tenants.foreign.token(),
            control,
            data,
        )


@pytest_asyncio.fixture(loop_scope="session")
async def unharmed(
    two_tenants: TwoTenants, isolation_databases: Mapping[str, PlaneDatabase]
) -> AsyncIterator[None]:
    """All rows of the victim, in both databases, are after the test what they were before."""
    before = await _everything_of(isolation_databases, two_tenants.victim.org_id)
    assert before
    yield
    assert await _everything_of(isolation_databases, two_tenants.victim.org_id) == before


async def _everything_of(
    databases: Mapping[str, PlaneDatabase], org_id: str
) -> dict[str, list[Any]]:
    found = {}
    for case in TENANT_TABLES:
        query = sql.SQL(
            "SELECT to_jsonb(t) AS row FROM {} t WHERE org_id = %s ORDER BY to_jsonb(t)::text"
        ).format(case.name)
        found[case.table] = await databases[case.database].look(query, org_id)
    return found


@pytest.mark.req("R6")
async def test_every_route_of_the_control_plane_has_its_case(two_tenants: TwoTenants) -> None:
    dispatched = control_plane_routes()
    catalogue.require_declared(
        "A route of the control plane", dispatched, CONTROL_ROUTES, control_routes.WHERE
    )
    # The code here and the server that runs are one and the same.
    served = await two_tenants.peers.control.http.get("/openapi.json")
    assert served.status_code == 200, served.text
    paths = served.json()["paths"]
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert documented == dispatched - {("GET", "/openapi.json")}


@pytest.mark.req("R6")
async def test_every_route_of_the_data_plane_has_its_case(
    two_tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in two_tenants.peers.data.environment.items():
        monkeypatch.setenv(name, value)
    plane = DataPlane(DataPlaneSettings())
    try:
        dispatched = data_plane_routes(plane.gate)
    finally:
        await plane.close()
    catalogue.require_declared(
        "A route of the data plane", dispatched, DATA_ROUTES, data_routes.WHERE
    )


@pytest.mark.req("R6")
@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("route", CONTROL_ROUTES, ids=_id)
async def test_control_plane_route(attack: Attack, route: Route, proof_cases: ProofCases) -> None:
    proof_cases.add(await CONTROL_ROUTES[route](route, attack))


@pytest.mark.req("R6")
@pytest.mark.fault("F24")
@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("route", DATA_ROUTES, ids=_id)
async def test_data_plane_route(attack: Attack, route: Route, proof_cases: ProofCases) -> None:
    proof_cases.add(await DATA_ROUTES[route](route, attack))
