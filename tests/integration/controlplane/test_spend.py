"""Sums over usage: a contract's view, alerts of caps, and what a plane has reported."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fixtures.controlplane import ControlPlaneProcess, PlaneClient, unique, usage_event

NOW = datetime.now(UTC)


async def _tree(control: ControlPlaneProcess, **child: Any) -> tuple[str, str, PlaneClient]:
    """Umbrella, child and their plane."""
    region = unique("region")
    plane = await control.plane(region)
    plan = await control.plan()
    umbrella = await control.tenant(plan, region=region, limits={"hardCapUSD": "10"})
    org_id = await control.tenant(plan, region=region, parent=umbrella, **child)
    return umbrella, org_id, plane


def _spent(org_id: str, usd: float, **changed: Any) -> dict[str, Any]:
    nanousd = int(usd * 10**9)
    return usage_event(
        org_id,
        occurred_at=NOW.isoformat(),
        **{"cost_nanousd": nanousd, "delta_nanousd": nanousd} | changed,
    )


async def _send(plane: PlaneClient, *events: dict[str, Any]) -> None:
    async with plane.speaking() as http:
        answer = await http.post("/v1/planes/self/usage", json={"events": events})
    assert answer.status_code == 200, answer.text


async def _get(control: ControlPlaneProcess, org_id: str, what: str) -> Any:
    answer = await control.http.get(f"/v1/tenants/{org_id}/{what}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _alerts(control: ControlPlaneProcess, org_id: str) -> list[tuple[str, str, int, int]]:
    found = await _get(control, org_id, "alerts")
    return sorted(
        (a["period"], a["capKind"], a["thresholdPercent"], a["spentNanousd"])
        for a in found["items"]
    )


@pytest.mark.req("R36", "R34")
async def test_an_umbrellas_usage_is_that_of_all_below_it(
    control_plane: ControlPlaneProcess,
) -> None:
    umbrella, child, plane = await _tree(control_plane)
    await _send(
        plane,
        _spent(umbrella, 0.5),
        _spent(child, 2, root_org_id=umbrella),
        _spent(child, 0.25, root_org_id=umbrella),
    )
    whole, own = [await _get(control_plane, org, "usage") for org in (umbrella, child)]
    assert sorted(whole["orgs"]) == sorted([umbrella, child])
    assert own["orgs"] == [child]
    assert [(m["calls"], m["costNanousd"]) for m in whole["months"]] == [(3, 2_750_000_000)]
    assert [(m["calls"], m["costNanousd"]) for m in own["months"]] == [(2, 2_250_000_000)]
    for view, spent in ((whole, 2_750_000_000), (own, 2_250_000_000)):
        assert view["thisMonthNanousd"] == spent
        assert view["forecastNanousd"] >= spent
        assert view["spike"] is False


@pytest.mark.req("R38")
async def test_each_threshold_is_told_once_at_each_level(
    control_plane: ControlPlaneProcess,
) -> None:
    umbrella, child, plane = await _tree(
        control_plane, limits={"softCapUSD": "1", "hardCapUSD": "4", "hardCapUSDPerDay": "100"}
    )
    first = _spent(child, 1.9, root_org_id=umbrella)
    await _send(plane, first)
    assert await _alerts(control_plane, child) == []
    second = _spent(child, 0.2, root_org_id=umbrella)
    for _ in range(2):  # sent again, it counts nothing twice
        await _send(plane, first, second)
    assert await _alerts(control_plane, child) == [("month", "hard", 50, 2_100_000_000)]
    assert await _alerts(control_plane, umbrella) == []

    await _send(plane, _spent(child, 3, root_org_id=umbrella))
    assert await _alerts(control_plane, child) == [
        ("month", "hard", 50, 2_100_000_000),
        ("month", "hard", 80, 5_100_000_000),
        ("month", "hard", 100, 5_100_000_000),
    ]
    assert await _alerts(control_plane, umbrella) == [("month", "hard", 50, 5_100_000_000)]


@pytest.mark.fault("F62")
async def test_a_plane_is_told_what_it_has_reported_and_no_other(
    control_plane: ControlPlaneProcess,
) -> None:
    umbrella, child, plane = await _tree(control_plane)
    other_umbrella, _, other = await _tree(control_plane)
    await _send(other, _spent(other_umbrella, 1))
    events = [_spent(child, 0.001 * n, root_org_id=umbrella) for n in range(1, 6)]
    await _send(plane, *events, _spent(umbrella, 1))
    async with plane.speaking() as http:
        totals = (await http.get("/v1/planes/self/usage")).json()["orgs"]
        pages: list[dict[str, Any]] = []
        after = "00000000-0000-0000-0000-000000000000"
        while page := (
            await http.get(f"/v1/planes/self/usage/{child}", params={"after": after, "limit": 2})
        ).json()["events"]:
            pages, after = pages + page, page[-1]["event_id"]
        foreign = (await http.get(f"/v1/planes/self/usage/{other_umbrella}")).json()["events"]
    assert {t["org_id"]: (t["events"], t["nanousd"]) for t in totals} == {
        umbrella: (1, 10**9),
        child: (5, 15_000_000),
    }
    assert [e["event_id"] for e in pages] == sorted(e["event_id"] for e in events)
    sent = {e["event_id"]: e["delta_nanousd"] for e in events}
    assert all(sent[e["event_id"]] == e["delta_nanousd"] for e in pages)
    assert foreign == []
