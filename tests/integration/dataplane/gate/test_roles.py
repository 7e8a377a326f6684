"""Role-bound entitlements through the running gate: lists and calls give the same answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from tenantplane.core.apis.snapshot import PromptGrant, RoleBound
from tenantplane.dataplane.gate.request import RequestTenant
from tests.fixtures.runtime import AgentPlane, TenantUnderTest

AGENT = "agent/assistant-1"
PIRATE = PromptGrant(name="pirate", version=3, text="You answer as a pirate would.")


def with_roles(
    plane: AgentPlane, tenant: TenantUnderTest, *roles: str, **changed: Any
) -> TenantUnderTest:
    """The tenant, whose caller has these roles, in an org of whose lists something is changed."""
    held = plane.callers.by_key[tenant.key].snapshot
    snapshot = held.model_copy(update={"version": held.version + 1, **changed})
    context = replace(tenant.context, roles=frozenset(roles))
    plane.callers.by_key[tenant.key] = RequestTenant(context, snapshot, lambda: snapshot)
    return replace(tenant, snapshot=snapshot, context=context)


async def ask(
    plane: AgentPlane, tenant: TenantUnderTest, text: str, model: str = AGENT, **body: Any
) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=plane.base_url, timeout=30) as http:
        return await http.post(
            "/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": text}], **body},
            headers={"authorization": f"Bearer {tenant.key}"},
        )


@pytest.mark.req("R24")
async def test_a_model_for_a_role_is_listed_and_called_by_its_holders_alone(
    agent_plane: AgentPlane,
) -> None:
    bound = (RoleBound(kind="model", name="assistant-1", roles=("lawyer",)),)
    clerk = with_roles(agent_plane, agent_plane.tenant(), "clerk", role_bound=bound)
    assert (await clerk.client.models.list()).data == []
    for model in ("assistant-1", AGENT):
        kept, never = [await ask(agent_plane, clerk, "Hi", name) for name in (model, "unheard-of")]
        assert (kept.status_code, kept.json()["error"]["code"]) == (404, "model_not_found")
        # Nobody learns from the answer that it is there for others.
        assert kept.text.replace(model, "…") == never.text.replace("unheard-of", "…")
    lawyer = with_roles(agent_plane, agent_plane.tenant(), "lawyer", role_bound=bound)
    assert [m.id for m in (await lawyer.client.models.list()).data] == ["assistant-1", AGENT]
    assert (await ask(agent_plane, lawyer, "Hi")).status_code == 200


@pytest.mark.req("R21", "R24")
@pytest.mark.fault("F29")
async def test_a_tool_for_a_role_is_offered_to_and_run_for_its_holders_alone(
    agent_plane: AgentPlane,
) -> None:
    bound = (RoleBound(kind="tool", name="notes", roles=("lawyer",)),)
    call = '[[call:notes_write {"text": "stolen"}]]'
    clerk = with_roles(agent_plane, agent_plane.tenant(), "clerk", role_bound=bound)
    refused = await ask(agent_plane, clerk, call)
    assert "There is no tool 'notes_write'" in refused.text
    offered = agent_plane.model.app.calls[-1].body["tools"]
    assert [tool["function"]["name"] for tool in offered] == ["clock"]
    lawyer = with_roles(agent_plane, agent_plane.tenant(), "lawyer", role_bound=bound)
    assert "There is no tool" not in (await ask(agent_plane, lawyer, call)).text


@pytest.mark.req("R20", "R50")
async def test_a_granted_prompt_is_the_system_message_and_its_version_is_on_record(
    agent_plane: AgentPlane,
) -> None:
    tenant = with_roles(agent_plane, agent_plane.tenant(), prompts=(PIRATE,))
    answer = await ask(agent_plane, tenant, "Hi", metadata={"prompt": "pirate"})
    assert answer.status_code == 200, answer.text
    system = agent_plane.model.app.calls[-1].body["messages"][0]
    assert system["role"] == "system"
    assert system["content"].startswith(PIRATE.text)
    record_id = answer.headers["x-tenantplane-audit-records"].split(",")[0]
    record = await agent_plane.record(tenant, record_id)
    request = json.loads(json.dumps(record.request))
    assert request["prompt"] == {"name": "pirate", "version": 3}


@pytest.mark.req("R20", "R24")
async def test_a_prompt_that_is_not_the_callers_is_one_that_never_was(
    agent_plane: AgentPlane,
) -> None:
    bound = (RoleBound(kind="prompt", name="pirate", roles=("captain",)),)
    kept = with_roles(agent_plane, agent_plane.tenant(), prompts=(PIRATE,), role_bound=bound)
    theirs = agent_plane.tenant()  # another org, which was never granted it
    answers = [
        await ask(agent_plane, tenant, "Hi", metadata={"prompt": "pirate"})
        for tenant in (kept, theirs)
    ]
    assert [a.status_code for a in answers] == [404, 404]
    assert answers[0].json()["error"]["code"] == "prompt_not_found"
    assert answers[0].text == answers[1].text
    assert await agent_plane.outcomes(kept) == []
    captain = with_roles(agent_plane, kept, "captain")
    assert (await ask(agent_plane, captain, "Hi", metadata={"prompt": "pirate"})).status_code == 200


async def test_a_plain_model_takes_no_prompt_of_the_orgs(agent_plane: AgentPlane) -> None:
    tenant = with_roles(agent_plane, agent_plane.tenant(), prompts=(PIRATE,))
    refused = await ask(
        agent_plane, tenant, "Hi", model="assistant-1", metadata={"prompt": "pirate"}
    )
    assert refused.status_code == 400


@pytest.mark.req("R20")
async def test_a_model_that_is_taken_back_in_mid_run_is_called_no_more(
    agent_plane: AgentPlane,
) -> None:
    tenant = agent_plane.tenant()
    held = agent_plane.callers.by_key[tenant.key]
    without = held.snapshot.model_copy(update={"version": 2, "models": ()})
    asked = 0

    def standing() -> Any:
        nonlocal asked
        asked += 1
        return held.snapshot if asked <= 2 else without

    agent_plane.callers.by_key[tenant.key] = RequestTenant(tenant.context, held.snapshot, standing)
    halted = await ask(agent_plane, tenant, "What time is it?")
    assert (halted.status_code, halted.json()["error"]["code"]) == (404, "model_not_found")
    models = [o for o in await agent_plane.outcomes(tenant) if o["cost_nanousd"] > 0]
    assert len(models) == 1
