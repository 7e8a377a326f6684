"""A row that the real control plane refuses: said on /readyz, and in nobody's way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import psycopg
import pytest

from tests.fixtures.controlplane import ControlPlaneProcess
from tests.fixtures.dataplane import Peers, until

StartPeers = Callable[[ControlPlaneProcess], Awaitable[Peers]]


@pytest.fixture
async def peers(
    start_peers: StartPeers, control_plane: ControlPlaneProcess
) -> AsyncIterator[Peers]:
    """A data plane of its own, since its readiness will show a note from then on."""
    peers = await start_peers(control_plane)
    yield peers
    await peers.data.close()


async def _shipped(peers: Peers, org_id: str) -> None:
    async def usage() -> str:
        answer = await peers.control.http.get(f"/v1/tenants/{org_id}/usage")
        return answer.text

    await until(usage, lambda text: "assistant-1" in text, 20)


async def _as_if_sent_with_other_content(peers: Peers, org_id: str) -> None:
    """The control plane knows the org's event otherwise, and the plane sends all anew."""
    async with await psycopg.AsyncConnection.connect(
        peers.control.provisioned.owner_dsn, autocommit=True
    ) as control:
        changed = await control.execute(
            "UPDATE controlplane.usage_event SET content_sha256 = sha256('other')"
            " WHERE org_id = %s",
            (org_id,),
        )
        assert changed.rowcount == 1
    async with await psycopg.AsyncConnection.connect(
        peers.data.provisioned.owner_dsn, autocommit=True
    ) as data:
        await data.execute("UPDATE dataplane.ship_cursor SET xid = '0'")


async def test_a_row_that_the_control_plane_refuses_is_shown_and_the_next_are_shipped(
    peers: Peers,
) -> None:
    changed, changed_secret = await peers.tenant()
    other, other_secret = await peers.tenant()
    assert (await peers.data.chat(changed_secret, "hello")).status_code == 200
    await _shipped(peers, changed)
    assert "shipping" not in (await peers.data.http.get("/readyz")).json()["checks"]

    await _as_if_sent_with_other_content(peers, changed)
    assert (await peers.data.chat(other_secret, "hello")).status_code == 200
    await _shipped(peers, other)

    async def ready() -> httpx2.Response:
        return await peers.data.http.get("/readyz")

    shown = await until(ready, lambda answer: "shipping" in answer.json()["checks"])
    assert shown.status_code == 200  # requests are served as before
    assert shown.json()["checks"]["shipping"].startswith("1 row")
    assert changed not in shown.text  # anybody may ask
    await peers.data.restart()
    await until(ready, lambda answer: "shipping" in answer.json()["checks"])
    log = peers.data.log.read_text()
    assert "event_changed" in log
    assert changed in log
