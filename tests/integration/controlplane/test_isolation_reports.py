"""What planes find in their own databases, and what the control plane does about its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import psycopg
import pytest

from tests.fixtures.controlplane import ControlPlaneProcess, StartControlPlane, unique
from tests.fixtures.dataplane import until

FINDING = {"severity": "refuse", "subject": "dataplane.thread", "message": "has no forced RLS"}
CLEAN: dict[str, Any] = {"interval_seconds": 60, "refusals": 0, "warnings": 0, "findings": []}
PATH = "/v1/planes/self/isolation"


async def test_what_a_plane_finds_is_told_of_its_tenants(
    control_plane: ControlPlaneProcess,
) -> None:
    region, elsewhere = unique("region"), unique("region")
    plane = await control_plane.plane(region)
    await control_plane.plane(elsewhere)
    plan = await control_plane.plan()
    org_id = await control_plane.tenant(plan, region=region)
    other = await control_plane.tenant(plan, region=elsewhere)
    assert (await control_plane.view(org_id)).isolation is None
    async with plane.speaking() as http:
        bad = CLEAN | {"refusals": 2, "findings": [FINDING]}
        assert (await http.put(PATH, json=bad)).status_code == 204
    refused = (await control_plane.view(org_id)).isolation
    assert refused is not None
    assert (refused.refusals, refused.warnings, refused.is_stale) == (2, 0, False)
    assert refused.first is not None
    assert (refused.first.subject, refused.first.message) == (
        FINDING["subject"],
        FINDING["message"],
    )
    assert 0 <= refused.age_seconds < 60
    assert (await control_plane.view(other)).isolation is None
    async with plane.speaking() as http:
        assert (await http.put(PATH, json=CLEAN)).status_code == 204
    healed = (await control_plane.view(org_id)).isolation
    assert healed is not None
    assert (healed.refusals, healed.first) == (0, None)
    planes = (await control_plane.http.get("/v1/planes")).json()["items"]
    told = {p["name"]: p["isolation"] for p in planes}
    assert told[plane.name]["refusals"] == 0
    listed = (await control_plane.http.get("/v1/tenants")).json()["items"]
    assert {t["orgId"]: t["isolation"] for t in listed}[org_id]["refusals"] == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"interval_seconds": 0},
        {"interval_seconds": 1e9},
        {"refusals": -1},
        {"findings": [FINDING] * 51},
        {"findings": [FINDING | {"severity": "fine"}]},
        {"findings": [FINDING | {"message": "m" * 501}]},
    ],
    ids=["no-interval", "long-interval", "negative", "many", "severity", "long-message"],
)
async def test_a_report_out_of_bounds_is_refused(
    control_plane: ControlPlaneProcess, changed: dict[str, object]
) -> None:
    plane = await control_plane.plane(unique("region"))
    async with plane.speaking() as http:
        assert (await http.put(PATH, json=CLEAN | changed)).status_code == 422


@pytest.fixture
async def watched(start_control_plane: StartControlPlane) -> AsyncIterator[ControlPlaneProcess]:
    """A control plane whose own database may be spoilt, checked as often as can be."""
    control = await start_control_plane(TENANTPLANE_ISOLATION_CHECK_SECONDS="0.05")
    yield control
    await control.close()


@pytest.mark.fault("F18")
async def test_a_control_plane_whose_own_database_lost_a_defence_serves_nothing(
    watched: ControlPlaneProcess,
) -> None:
    plan = await watched.plan()
    region = unique("region")
    plane = await watched.plane(region)
    org_id = await watched.tenant(plan, region=region)

    async def ask() -> httpx2.Response:
        return await watched.http.get(f"/v1/tenants/{org_id}")

    await _as_owner(watched, "ALTER TABLE controlplane.org NO FORCE ROW LEVEL SECURITY")
    refused = await until(ask, lambda response: response.status_code == 503)
    assert refused.json()["code"] == "isolation_not_verified"
    assert refused.headers["retry-after"]
    assert "controlplane.org" not in refused.text  # anybody may read this
    ready = await watched.http.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "isolation_not_verified")
    assert (await watched.http.get("/healthz")).status_code == 200
    assert (await plane.ask_token()).status_code == 503
    assert "controlplane.org has org_id but no forced row-level" in watched.log.read_text()

    await _as_owner(watched, "ALTER TABLE controlplane.org FORCE ROW LEVEL SECURITY")
    await until(ask, lambda response: response.status_code == 200)
    assert (await watched.http.get("/readyz")).status_code == 200


async def _as_owner(control: ControlPlaneProcess, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        control.provisioned.owner_dsn, autocommit=True
    ) as connection:
        await connection.execute(statement.encode())
