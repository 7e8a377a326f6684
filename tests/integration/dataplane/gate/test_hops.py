"""What a warm request costs in hops, counted on the wire: two round trips to Valkey, two commits in
Postgres that requests share, and no read of the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import quote

import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.fixtures.dataplane import DataPlaneProcess, Peers
from tests.fixtures.faults_network import Link, tcp_link, unix_link

REQUESTS = 20
AT_ONCE = 16


@dataclass(frozen=True)
class Counted:
    """A replica whose every word to its stores passes through links that count."""

    plane: DataPlaneProcess
    secret: str
    valkey: Link
    postgres: Link

    async def chat(self) -> None:
        answer = await self.plane.chat(self.secret, "Hello.")
        assert answer.status_code == 200, answer.text

    def hops_to_postgres(self, role: str) -> list[int]:
        """Round trips of each of the role's connections that had any: "app" or "system"."""
        name = self.plane.provisioned.bootstrapped.role(role).encode()
        return sorted(
            traffic.round_trips
            for traffic in self.postgres.traffic
            if traffic.round_trips and name in traffic.opening
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def counted(data_plane: Peers) -> AsyncIterator[Counted]:
    data = data_plane.data
    app_dsn = data.environment["TENANTPLANE_DATABASE__APP_DSN"]
    _, secret = await data_plane.tenant()
    async with AsyncExitStack() as opened:
        valkey = unix_link(str(data.valkey.socket))
        postgres = tcp_link(int(str(conninfo_to_dict(app_dsn)["port"])))
        for link in (valkey, postgres):
            await link.open()
            opened.push_async_callback(link.close)
        dsns = {
            name: make_conninfo(data.environment[name], port=postgres.port)
            for name in ("TENANTPLANE_DATABASE__APP_DSN", "TENANTPLANE_DATABASE__SYSTEM_DSN")
        }
        password = quote(data.valkey.password)
        plane = data.twin(
            **dsns,
            TENANTPLANE_VALKEY__URL=f"redis://:{password}@127.0.0.1:{valkey.port}/0",
            # What runs beside requests is not what a request costs.
            TENANTPLANE_SWEEP_SECONDS="3600",
            TENANTPLANE_SHIP_SECONDS="3600",
            TENANTPLANE_DOCUMENTS__RE_EMBED_SECONDS="3600",
        )
        opened.push_async_callback(plane.close)
        await plane.start()
        await plane.serves(secret)
        made = Counted(plane, secret, valkey, postgres)
        for _ in range(10):  # connections, prepared statements, the org's data key
            await made.chat()
        yield made


@pytest.mark.req("R23")
async def test_a_warm_request_takes_two_hops_to_valkey_and_two_commits(counted: Counted) -> None:
    for link in (counted.valkey, counted.postgres):
        link.forget_traffic()

    for _ in range(REQUESTS):
        await counted.chat()

    assert counted.valkey.round_trips() == 2 * REQUESTS
    # Intents on one connection, outcomes on another, and nothing on any other: nothing is read.
    assert counted.hops_to_postgres("app") == [REQUESTS, REQUESTS]
    # Beacons of the control plane are stored meanwhile, however many requests there are.
    assert sum(counted.hops_to_postgres("system")) < REQUESTS


async def test_requests_at_once_share_their_commits(counted: Counted) -> None:
    counted.postgres.forget_traffic()

    await asyncio.gather(*(counted.chat() for _ in range(AT_ONCE)))

    commits = counted.hops_to_postgres("app")
    assert len(commits) == 2
    assert max(commits) < AT_ONCE
