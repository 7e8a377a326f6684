"""The official client against the API: plain completions, streams, models, refusals."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.fixtures.runtime import INPUT_PRICE, OUTPUT_PRICE, AgentPlane, TenantUnderTest

MODEL = "assistant-1"


@pytest.fixture
def tenant(agent_plane: AgentPlane) -> TenantUnderTest:
    return agent_plane.tenant()


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_a_plain_completion_is_answered_priced_and_recorded(
    agent_plane: AgentPlane, tenant: TenantUnderTest
) -> None:
    raw = await tenant.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=user("Hello"), temperature=0.2
    )
    completion = raw.parse()
    assert completion.model == MODEL
    assert completion.choices[0].message.content == "Scripted answer to: Hello"
    assert completion.usage is not None
    usage = completion.usage
    cost = usage.prompt_tokens * INPUT_PRICE + usage.completion_tokens * OUTPUT_PRICE
    assert int(raw.headers["x-tenantplane-cost-nanousd"]) == cost
    spend = await agent_plane.spend(tenant)
    assert (spend.settled_nanousd, spend.held_nanousd) == (cost, 0)
    record = await agent_plane.record(tenant, raw.headers["x-tenantplane-audit-records"])
    assert record.status == "completed"
    assert "Hello" in json.dumps(record.request)
    assert "Scripted answer" in json.dumps(record.response)
    sent = agent_plane.model.app.calls[-1].body
    assert sent["model"] == "scripted-1"
    assert sent["max_completion_tokens"] == 500
    assert sent["temperature"] == 0.2


@pytest.mark.parametrize("include_usage", [False, True])
async def test_a_stream_is_passed_on_and_settled_before_it_ends(
    agent_plane: AgentPlane, tenant: TenantUnderTest, include_usage: bool
) -> None:
    stream = await tenant.client.chat.completions.create(
        model=MODEL,
        messages=user("[[tokens:40]]"),
        stream=True,
        stream_options={"include_usage": True} if include_usage else openai.omit,
    )
    chunks: list[ChatCompletionChunk] = [chunk async for chunk in stream]
    (outcome,) = await agent_plane.outcomes(tenant)
    assert outcome["output_tokens"] == 40
    assert outcome["stage"] == "actual"
    assert {chunk.model for chunk in chunks} == {MODEL}
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == " word" * 40
    usages = [c.usage for c in chunks if c.usage is not None]
    assert [u.completion_tokens for u in usages] == ([40] if include_usage else [])
    assert all(c.choices for c in chunks) is not include_usage
    assert agent_plane.model.app.calls[-1].body["stream_options"] == {"include_usage": True}


async def test_a_client_may_bring_its_own_tools_to_a_plain_model(tenant: TenantUnderTest) -> None:
    completion = await tenant.client.chat.completions.create(
        model=MODEL,
        messages=user('[[call:weather {"city": "Kyiv"}]]'),
        tools=[{"type": "function", "function": {"name": "weather", "parameters": {}}}],
    )
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Kyiv"}')
    followed = await tenant.client.chat.completions.create(
        model=MODEL,
        messages=[
            *user("weather?"),
            choice.message.model_dump(),  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ],
    )
    assert followed.choices[0].message.content == "The tool says: sunny"


async def test_models_are_those_of_the_org_plain_and_as_agents(
    agent_plane: AgentPlane, tenant: TenantUnderTest
) -> None:
    assert [m.id async for m in tenant.client.models.list()] == [MODEL, f"agent/{MODEL}"]
    assert (await tenant.client.models.retrieve(f"agent/{MODEL}")).id == f"agent/{MODEL}"
    with pytest.raises(openai.NotFoundError):
        await tenant.client.models.retrieve("gpt-9")
    narrow = agent_plane.tenant(scopes=frozenset({"clock"}))
    assert [m.id async for m in narrow.client.models.list()] == []


@pytest.mark.parametrize("model", ["gpt-9", "agent/gpt-9", "agent/"])
async def test_a_model_off_the_list_is_not_found(
    agent_plane: AgentPlane, tenant: TenantUnderTest, model: str
) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await tenant.client.chat.completions.create(model=model, messages=user("x"))
    assert refused.value.code == "model_not_found"
    assert await agent_plane.outcomes(tenant) == []


async def test_a_bad_body_gets_every_field_named(tenant: TenantUnderTest) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await tenant.client.chat.completions.create(
            model=MODEL, messages=user("x"), n=3, temperature=7, extra_body={"web_search": {}}
        )
    message = refused.value.message
    assert all(name in message for name in ("n: only n=1", "temperature", "web_search"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"metadata": {"thread_id": "x"}}, "thread_id"),
        (
            {"model": f"agent/{MODEL}", "tools": [{"type": "function", "function": {"name": "f"}}]},
            "tools",
        ),
    ],
)
async def test_what_would_be_ignored_is_refused_instead(
    tenant: TenantUnderTest, changes: dict[str, Any], named: str
) -> None:
    arguments = {"model": MODEL, "messages": user("x")} | changes
    with pytest.raises(openai.BadRequestError, match=named):
        await tenant.client.chat.completions.create(**arguments)


async def test_a_call_that_might_pass_the_cap_is_not_made(agent_plane: AgentPlane) -> None:
    poor = agent_plane.tenant(hard_cap_nanousd=15 * OUTPUT_PRICE)
    calls_before = len(agent_plane.model.app.calls)
    with pytest.raises(openai.APIStatusError) as refused:
        await poor.client.chat.completions.create(model=MODEL, messages=user("x"))
    assert refused.value.status_code == 402
    assert refused.value.code == "hard_cap_reached"
    assert len(agent_plane.model.app.calls) == calls_before
    # The same question with a lower limit of tokens fits.
    await poor.client.chat.completions.create(model=MODEL, messages=user("x"), max_tokens=1)
