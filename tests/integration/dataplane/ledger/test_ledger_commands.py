"""`tenantplane-dataplane ledger …` beside a plane that runs, with the plane's own variables."""

from __future__ import annotations

import argparse

import psycopg
import pytest

from tenantplane.core.errors import Conflict
from tenantplane.dataplane.ledger.commands import add_ledger
from tests.fixtures.dataplane import Peers, until


async def run(peers: Peers, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    parser = argparse.ArgumentParser()
    add_ledger(parser.add_subparsers())
    chosen = parser.parse_args(["ledger", *arguments])
    with monkeypatch.context() as environment:
        for name, value in peers.data.environment.items():
            environment.setenv(name, value)
        await chosen.run(chosen)


async def shipped(peers: Peers, org_id: str, calls: int) -> None:
    async def reported() -> int:
        usage = (await peers.control.http.get(f"/v1/tenants/{org_id}/usage")).json()
        return sum(month["calls"] for month in usage["months"])

    await until(reported, lambda count: count >= calls)


@pytest.mark.req("R34")
async def test_the_books_of_a_running_plane_agree_and_a_wrong_one_is_repaired(
    data_plane: Peers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    org_id, key = await data_plane.tenant()
    for _ in range(3):
        assert (await data_plane.data.chat(key, "hello")).status_code == 200
    await shipped(data_plane, org_id, 3)
    await run(data_plane, monkeypatch, "check", org_id)
    assert f"the books of {org_id} agree" in capsys.readouterr().out

    # As if an earlier version had rolled something that never was.
    async with await psycopg.AsyncConnection.connect(
        data_plane.data.provisioned.owner_dsn
    ) as owner:
        await owner.execute(
            "INSERT INTO dataplane.spend_roll VALUES (%(org)s, %(org)s, 'org', %(org)s, 'month',"
            " '2100-01', 4102444800, 5000000000)",
            {"org": org_id},
        )
    with pytest.raises(Conflict) as differs:
        await run(data_plane, monkeypatch, "check", org_id)
    assert differs.value.error_code == "ledger_differs"
    assert f"rolls: org {org_id} 2100-01: $0.00 in the ledger, $5.00 there" in (
        capsys.readouterr().out
    )
    await run(data_plane, monkeypatch, "check", org_id, "--repair")
    await run(data_plane, monkeypatch, "check", org_id)


async def test_a_whole_plane_has_nothing_to_adopt(
    data_plane: Peers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    org_id, key = await data_plane.tenant()
    assert (await data_plane.data.chat(key, "hello")).status_code == 200
    await shipped(data_plane, org_id, 1)
    await run(data_plane, monkeypatch, "adopt")
    assert "adopted 0 events of 0 orgs" in capsys.readouterr().out
