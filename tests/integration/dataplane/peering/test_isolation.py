"""A live database that lost a defence: the plane says so, serves nothing, and heals by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import psycopg
import pytest

from tenantplane.core.apis.registry import IsolationView
from tests.fixtures.controlplane import ControlPlaneProcess, unique
from tests.fixtures.dataplane import Peers, StartDataPlane, until

# While refused it looks each interval; a change of the catalogue is seen at the next look too.
INTERVAL_SECONDS = "0.2"


@pytest.fixture
async def watched(
    control_plane: ControlPlaneProcess, start_data_plane: StartDataPlane
) -> AsyncIterator[Peers]:
    """Planes whose data plane's database may be spoilt."""
    name = unique("plane")
    region = f"region-{name}"
    token = await control_plane.enrolment_token(name, region)
    environment = {"TENANTPLANE_PEERING__ISOLATION_CHECK_SECONDS": INTERVAL_SECONDS}
    data = await start_data_plane(control_plane.url, name, token, environment=environment)
    yield Peers(control_plane, data, region)
    await data.close()


@pytest.mark.fault("F18")
async def test_a_table_that_lost_its_force_is_told_and_ends_service_until_it_is_restored(
    watched: Peers,
) -> None:
    org_id, secret = await watched.tenant()

    async def isolation() -> IsolationView | None:
        return (await watched.control.view(org_id)).isolation

    def refusals(view: IsolationView | None) -> int | None:
        return None if view is None else view.refusals

    await until(isolation, lambda view: refusals(view) == 0)

    await _as_owner(watched, "ALTER TABLE dataplane.thread NO FORCE ROW LEVEL SECURITY")
    told = await until(isolation, lambda view: refusals(view) == 1)
    assert told is not None
    assert told.first is not None
    assert told.first.subject == "dataplane.thread"
    refused = await watched.data.answers(secret, 503)
    assert refused.json()["error"]["code"] == "isolation_not_verified"
    assert refused.headers["retry-after"]
    assert "dataplane.thread" not in refused.text  # anybody may read this
    chat = await watched.data.chat(secret, "hello")
    assert chat.status_code == 503
    unknown = await watched.data.get("/v1/models", "garbage")
    assert unknown.status_code == 401  # a stranger learns nothing of the plane

    async def ready() -> httpx2.Response:
        return await watched.data.http.get("/readyz")

    said = await until(ready, lambda response: response.status_code == 503)
    assert said.json()["checks"]["isolation"] == "isolation_not_verified"
    assert (await watched.data.http.get("/healthz")).status_code == 200

    await _as_owner(watched, "ALTER TABLE dataplane.thread FORCE ROW LEVEL SECURITY")
    await until(isolation, lambda view: refusals(view) == 0)
    await watched.data.serves(secret)
    assert (await watched.data.chat(secret, "hello")).status_code == 200
    await until(ready, lambda response: response.status_code == 200)


async def _as_owner(peers: Peers, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        peers.data.provisioned.owner_dsn, autocommit=True
    ) as connection:
        await connection.execute(statement.encode())
