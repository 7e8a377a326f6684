"""Limits of users, keys and runs, in shadow and in force, and the fields that tell of them, through
the running gate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tenantplane.core.apis.snapshot import CapRaise, LevelLimits, RunBounds, Snapshot
from tenantplane.dataplane.gate.request import RequestTenant
from tests.fixtures.runtime import AgentPlane, TenantUnderTest, until

AGENT = "agent/assistant-1"
PLAIN = "assistant-1"


def served_by(
    plane: AgentPlane, tenant: TenantUnderTest, *, user: str = "u1", **changed: Any
) -> Snapshot:
    """The tenant's key becomes one of `user` in an org with these limits."""
    held = plane.callers.by_key[tenant.key].snapshot
    snapshot = held.model_copy(update={"version": held.version + 1, **changed})
    context = replace(tenant.context, user_id=user, key_id="k1")
    plane.callers.by_key[tenant.key] = RequestTenant(context, snapshot, lambda: snapshot)
    return snapshot


async def ask(
    plane: AgentPlane, tenant: TenantUnderTest, text: str = "Hi", model: str = PLAIN, **body: Any
) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=plane.base_url, timeout=30) as http:
        return await http.post(
            "/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": text}], **body},
            headers={"authorization": f"Bearer {tenant.key}"},
        )


def code_of(answer: httpx2.Response) -> str:
    return str(answer.json()["error"]["code"])


@pytest.mark.req("R30", "R36")
async def test_each_user_of_an_org_has_a_quota_of_its_own(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant()
    served_by(agent_plane, tenant, per_user=LevelLimits(requests_per_minute=2))
    answers = [await ask(agent_plane, tenant) for _ in range(3)]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert [a.headers["ratelimit"].partition(";t=")[0] for a in answers] == [
        '"user-requests";r=1',
        '"user-requests";r=0',
        '"user-requests";r=0',
    ]
    for answer in answers:
        assert answer.headers["ratelimit-policy"] == '"user-requests";q=2;w=60'
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
    assert int(answers[2].headers["retry-after"]) in range(1, 63)
    # The next one is refused without the store, and told the same.
    known = await ask(agent_plane, tenant)
    assert known.headers["ratelimit-policy"] == '"user-requests";q=2;w=60'
    served_by(agent_plane, tenant, user="u2")
    assert (await ask(agent_plane, tenant)).status_code == 200


@pytest.mark.req("R31", "R36")
async def test_a_users_cap_halts_that_user_alone(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant()
    served_by(agent_plane, tenant, per_user=LevelLimits(day_hard_cap_nanousd=1))
    refused = await ask(agent_plane, tenant)
    assert (refused.status_code, code_of(refused)) == (402, "hard_cap_reached")
    assert '"user-day";q=1;qu="nanousd"' in refused.headers["ratelimit-policy"]
    assert refused.json()["error"]["message"].startswith("The user 'u1' has a hard cap of")
    assert (await agent_plane.spend(tenant)).held_nanousd == 0
    served_by(agent_plane, tenant, per_user=None, per_key=LevelLimits(hard_cap_nanousd=1))
    assert '"key-month"' in (await ask(agent_plane, tenant)).headers["ratelimit"]
    served_by(agent_plane, tenant, per_key=None)
    assert (await ask(agent_plane, tenant)).status_code == 200


@pytest.mark.req("R31")
async def test_a_raise_is_in_force_for_its_time(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(hard_cap_nanousd=1)
    assert (await ask(agent_plane, tenant)).status_code == 402
    now = datetime.now(UTC)
    for begins_at, ends_at, status in (
        (now + timedelta(hours=5), now + timedelta(hours=6), 402),
        (now - timedelta(hours=6), now - timedelta(hours=5), 402),
        (now - timedelta(hours=5), now + timedelta(hours=5), 200),
    ):
        raised = CapRaise(
            raise_id="r1",
            period="month",
            extra_nanousd=10_000_000_000,
            begins_at=begins_at,
            ends_at=ends_at,
        )
        level = tenant.snapshot.levels[0].model_copy(update={"raises": (raised,)})
        served_by(agent_plane, tenant, levels=(level,))
        assert (await ask(agent_plane, tenant)).status_code == status


@pytest.mark.req("R30")
async def test_a_limit_in_shadow_refuses_nothing_and_is_counted(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant()
    shadow = LevelLimits(requests_per_minute=1, hard_cap_nanousd=1, shadow=True)
    served_by(agent_plane, tenant, per_user=shadow)
    answers = [await ask(agent_plane, tenant) for _ in range(2)]
    assert [a.status_code for a in answers] == [200, 200]
    assert not any("ratelimit" in a.headers for a in answers)
    assert agent_plane.meter.shadow.calls(tenant.org_id) == 2


@pytest.mark.req("R30")
async def test_calls_at_a_time_are_bounded(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant()
    level = tenant.snapshot.levels[0].model_copy(update={"concurrent_calls": 1})
    served_by(agent_plane, tenant, levels=(level,))
    agent_plane.model.app.tokens_per_second = 50
    try:
        slow = await tenant.client.chat.completions.create(
            model=PLAIN, messages=[{"role": "user", "content": "[[tokens:400]]"}], stream=True
        )
        await anext(aiter(slow))
        refused = await ask(agent_plane, tenant)
        assert (refused.status_code, code_of(refused)) == (429, "too_many_calls")
        assert '"org-calls";q=1;qu="concurrent-requests"' in refused.headers["ratelimit-policy"]
        await slow.close()
    finally:
        agent_plane.model.app.tokens_per_second = None

    async def is_served() -> bool:
        return (await ask(agent_plane, tenant)).status_code == 200

    await until(is_served, 10)  # the stream that was left settles first


@pytest.mark.req("R31")
@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    ("bounds", "status", "code"),
    [
        (RunBounds(steps=3), 422, "step_limit_reached"),
        (RunBounds(cost_nanousd=10_000_000), 402, "hard_cap_reached"),
    ],
    ids=["steps", "cost"],
)
async def test_a_run_is_halted_at_its_own_bound_and_its_thread_goes_on(
    agent_plane: AgentPlane, bounds: RunBounds, status: int, code: str
) -> None:
    tenant = agent_plane.tenant(max_output_tokens=100)
    served_by(agent_plane, tenant, per_run=bounds)
    halted = await ask(agent_plane, tenant, "[[loop]]", AGENT)
    assert (halted.status_code, code_of(halted)) == (status, code)
    calls = len(halted.headers["x-tenantplane-audit-records"].split(","))
    assert calls == 3 if bounds.steps else calls >= 1
    spend = await agent_plane.spend(tenant)
    assert spend.held_nanousd == 0
    if bounds.cost_nanousd is not None:
        assert spend.settled_nanousd <= bounds.cost_nanousd
    # The next run has a bound of its own; the thread is whole.
    thread = {"thread_id": halted.headers["x-tenantplane-thread-id"]}
    served_by(agent_plane, tenant, per_run=bounds.model_copy(update={"cost_nanousd": None}))
    again = await ask(agent_plane, tenant, "Enough", AGENT, metadata=thread)
    assert again.json()["choices"][0]["message"]["content"] == "Scripted answer to: Enough"


@pytest.mark.req("R31")
@pytest.mark.fault("F30")
@pytest.mark.parametrize("model", [PLAIN, AGENT])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_run_that_is_out_of_time_is_cut_and_settled(
    agent_plane: AgentPlane, model: str, stream: bool
) -> None:
    tenant = agent_plane.tenant()
    served_by(agent_plane, tenant, per_run=RunBounds(seconds=1))
    agent_plane.model.app.tokens_per_second = 100
    try:
        answer = await ask(agent_plane, tenant, "[[tokens:400]]", model, stream=stream)
    finally:
        agent_plane.model.app.tokens_per_second = None
    if stream:
        assert answer.status_code == 200
        assert '"code":"run_time_reached"' in answer.text
        assert "[DONE]" not in answer.text
    else:
        assert (answer.status_code, code_of(answer)) == (422, "run_time_reached")

    async def is_settled() -> bool:
        return (await agent_plane.spend(tenant)).held_nanousd == 0

    await until(is_settled, 15)  # a call that does not stream goes on to its end
    assert (await agent_plane.spend(tenant)).settled_nanousd > 0
