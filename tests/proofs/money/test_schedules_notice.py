"""The checks of the fault runner see what is wrong: each runs against replicas that do one thing
wrong on purpose (tests/proofs/money/replica.py), and must find it."""

from __future__ import annotations

import asyncio

import pytest

from tests.fixtures.scripted_control_plane import ScriptedControlPlane
from tests.proofs.money.deployment import Deployment, Replica
from tests.proofs.money.invariants import Findings, look_at_caps
from tests.proofs.money.schedules import Schedule
from tests.proofs.money.tenants import Caller, Tenants, make_tenant_of_one_call
from tests.proofs.money.test_schedules import SCHEDULE_SECONDS, run


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        ("settles twice", "Valkey has"),
        ("drops outcomes", "was answered without its outcome"),
    ],
)
async def test_what_a_replica_does_wrong_is_found(
    scripted_control_plane: ScriptedControlPlane, sabotage: str, said: str
) -> None:
    async with Deployment.started(scripted_control_plane, sabotage=sabotage) as deployment:
        async with asyncio.timeout(SCHEDULE_SECONDS):
            _, findings = await run(deployment, Schedule(0, ()), lambda *_: None)

    assert any(said in violation for violation in findings.violations), findings.violations


@pytest.mark.parametrize(("sabotage", "found"), [("any epoch", True), ("", False)])
async def test_a_hold_that_valkey_forgot_passes_the_cap_where_the_epoch_does_not_matter(
    scripted_control_plane: ScriptedControlPlane, sabotage: str, found: bool
) -> None:
    """A call holds, Valkey forgets it, its budget goes to another call, and then it goes on."""
    # The first call stands in its gap for as long as all of this takes.
    times = {"commit_window": 60.0}
    findings = Findings()
    async with (
        asyncio.timeout(SCHEDULE_SECONDS),
        Deployment.started(scripted_control_plane, sabotage=sabotage, times=times) as deployment,
    ):
        tenants = await make_tenant_of_one_call(deployment)
        await deployment.all_serve(tenants.callers[0].secret)
        slow, other = deployment.replicas
        first = await _stands_in_its_gap(deployment, tenants, slow)
        await deployment.kill_valkey()
        await deployment.start_valkey(emptied=True)
        assert await _ask(deployment, other, tenants.callers[0]) == 200
        slow.tell({"go_on": True})
        await first
        await look_at_caps(deployment, tenants, findings)

    assert bool(findings.violations) is found, findings.violations


async def _stands_in_its_gap(
    deployment: Deployment, tenants: Tenants, replica: Replica
) -> asyncio.Task[int]:
    replica.tell({"gap": "hold_to_intent", "passes": 1, "dies": False})
    asking = asyncio.create_task(_ask(deployment, replica, tenants.callers[0]))
    await asyncio.wait_for(replica.reached.wait(), 20)
    return asking


async def _ask(deployment: Deployment, replica: Replica, caller: Caller) -> int:
    """A call that costs about what it is held for."""
    message = {"role": "user", "content": f"[[org:{caller.org_id}]] [[tokens:100]]"}
    body = {"model": "assistant-1", "max_tokens": 100, "messages": [message]}
    headers = {"authorization": f"Bearer {caller.secret}"}
    url = replica.base_url + "/v1/chat/completions"
    async with deployment.http.post(url, json=body, headers=headers) as answer:
        return answer.status
