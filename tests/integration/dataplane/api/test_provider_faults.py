"""What a provider does wrong: the answer, and what it costs."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tenantplane.dataplane.models.answer import Answer
from tests.fixtures.runtime import (
    INPUT_PRICE,
    OUTPUT_PRICE,
    AgentPlane,
    TenantUnderTest,
    model_grant,
    until,
)

MODEL = "assistant-1"


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def ask(tenant: TenantUnderTest, text: str, *, stream: bool = False) -> str:
    if not stream:
        plain = await tenant.client.chat.completions.create(model=MODEL, messages=user(text))
        return plain.choices[0].message.content or ""
    chunks = await tenant.client.chat.completions.create(
        model=MODEL, messages=user(text), stream=True
    )
    return "".join([c.choices[0].delta.content or "" async for c in chunks])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code", "retry_after"),
    [
        ("400", 400, "provider_refused", None),
        ("429", 503, "provider_rate_limited", "7"),
        ("500", 503, "provider_unavailable", "5"),
    ],
)
async def test_a_refusal_costs_nothing(
    agent_plane: AgentPlane,
    stream: bool,
    fault: str,
    status: int,
    code: str,
    retry_after: str | None,
) -> None:
    # A model of its own: a 429 is honoured by all who ask the same one.
    grant = model_grant("scripted", upstream_model=f"{fault}-{stream}")
    tenant = agent_plane.tenant(models=(grant,))
    with pytest.raises(openai.APIStatusError) as refused:
        await ask(tenant, f"[[fault:{fault}]]", stream=stream)
    assert refused.value.status_code == status
    assert refused.value.code == code
    assert refused.value.response.headers.get("retry-after") == retry_after
    spend = await agent_plane.spend(tenant)
    assert (spend.settled_nanousd, spend.held_nanousd) == (0, 0)
    record_id = refused.value.response.headers["x-tenantplane-audit-records"]
    assert (await agent_plane.record(tenant, record_id)).status == "failed"


async def test_an_absent_provider_is_503_and_costs_nothing(agent_plane: AgentPlane) -> None:
    for provider in ("absent", "unheard-of"):
        tenant = agent_plane.tenant(provider=provider)
        with pytest.raises(openai.InternalServerError) as refused:
            await ask(tenant, "x")
        assert refused.value.status_code == 503
        spend = await agent_plane.spend(tenant)
        assert (spend.settled_nanousd, spend.held_nanousd) == (0, 0)


async def test_a_provider_that_hangs_is_bounded_and_counted_at_the_worst(
    agent_plane: AgentPlane,
) -> None:
    tenant = agent_plane.tenant(provider="impatient", max_output_tokens=50)
    with pytest.raises(openai.InternalServerError) as refused:
        await ask(tenant, "[[fault:hang]]")
    assert refused.value.code == "provider_timeout"
    (outcome,) = await agent_plane.outcomes(tenant)
    assert outcome["output_tokens"] == 50
    assert outcome["stage"] == "estimated"
    assert (await agent_plane.spend(tenant)).held_nanousd == 0


async def test_a_stream_that_is_cut_ends_in_an_error_and_costs_what_came(
    agent_plane: AgentPlane,
) -> None:
    tenant = agent_plane.tenant()
    with pytest.raises(openai.APIError) as refused:
        await ask(tenant, "[[tokens:60]] [[fault:cut]]", stream=True)
    assert refused.value.code == "provider_broken_answer"
    (outcome,) = await agent_plane.outcomes(tenant)
    received = len(" word" * 31)
    assert outcome["stage"] == "estimated"
    assert outcome["output_tokens"] == received
    assert outcome["cost_nanousd"] >= received * OUTPUT_PRICE


@pytest.mark.fault("F40")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["usage-none", "usage-negative", "usage-fraction", "usage-huge"])
async def test_usage_that_cannot_be_true_is_never_free(
    agent_plane: AgentPlane, fault: str, stream: bool
) -> None:
    tenant = agent_plane.tenant()
    text = await ask(tenant, f"[[tokens:20]] [[fault:{fault}]]", stream=stream)
    (outcome,) = await agent_plane.outcomes(tenant)
    assert outcome["output_tokens"] == len(text) == 100
    assert outcome["cost_nanousd"] >= 20 * OUTPUT_PRICE + 10 * INPUT_PRICE
    spend = await agent_plane.spend(tenant)
    assert (spend.settled_nanousd, spend.held_nanousd) == (outcome["cost_nanousd"], 0)


async def test_more_than_was_promised_is_recorded_as_it_is(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(max_output_tokens=50)
    await ask(tenant, "[[fault:usage-excess]]")
    (outcome,) = await agent_plane.outcomes(tenant)
    assert outcome["output_tokens"] == 101
    assert outcome["provider_excess"] is True


@pytest.mark.fault("F30")
@pytest.mark.parametrize("model", ["assistant-1", "agent/assistant-1"])
async def test_an_endless_stream_is_ended_at_what_was_held(
    agent_plane: AgentPlane, model: str
) -> None:
    tenant = agent_plane.tenant(max_output_tokens=50)
    stream = await tenant.client.chat.completions.create(
        model=model,
        messages=user("[[fault:endless]]"),
        stream=True,
        max_tokens=10**9,
    )
    chunks = [chunk async for chunk in stream]
    assert agent_plane.model.app.calls[-1].body["max_completion_tokens"] == 50
    assert chunks[-1].choices[0].finish_reason == "length"
    (outcome,) = await agent_plane.outcomes(tenant)
    assert outcome["output_tokens"] == 50
    assert (await agent_plane.spend(tenant)).held_nanousd == 0

    async def left() -> bool:
        return agent_plane.model.app.calls[-1].ended == "abandoned"

    await until(left)


async def test_a_client_that_leaves_a_plain_call_pays_what_it_used(
    agent_plane: AgentPlane,
) -> None:
    """Also in an agent's run: the call goes on to its end, the run does not."""
    for model in ("assistant-1", "agent/assistant-1"):
        tenant = agent_plane.tenant()
        agent_plane.model.app.latency_seconds = 0.3
        try:
            with pytest.raises(openai.APITimeoutError):
                await tenant.client.with_options(timeout=0.2).chat.completions.create(
                    model=model, messages=user("[[loop]] [[tokens:9]]")
                )

            async def settled(tenant: TenantUnderTest = tenant) -> bool:
                return bool(await agent_plane.outcomes(tenant))

            await until(settled)
        finally:
            agent_plane.model.app.latency_seconds = 0.0
        (outcome,) = await agent_plane.outcomes(tenant)
        assert outcome["stage"] == "actual"


@pytest.mark.fault("F36")
@pytest.mark.parametrize("model", ["assistant-1", "agent/assistant-1"])
async def test_a_client_that_leaves_in_mid_stream_ends_the_call_and_pays_for_what_came(
    agent_plane: AgentPlane, model: str
) -> None:
    tenant = agent_plane.tenant(max_output_tokens=20_000, hard_cap_nanousd=None)

    async def left() -> bool:
        ended = agent_plane.model.app.calls[-1].ended != "running"
        return ended and bool(await agent_plane.outcomes(tenant))

    async def settled() -> bool:
        return (await agent_plane.spend(tenant)).held_nanousd == 0

    agent_plane.model.app.tokens_per_second = 500
    try:
        stream = await tenant.client.chat.completions.create(
            model=model, messages=user("[[tokens:20000]]"), stream=True
        )
        seen = 0
        async for _ in stream:
            seen += 1
            if seen == 5:
                break
        await stream.close()
        await until(left)
    finally:
        agent_plane.model.app.tokens_per_second = None
    assert agent_plane.model.app.calls[-1].ended == "abandoned"
    (outcome,) = await agent_plane.outcomes(tenant)
    # At least what the client saw, and far from the 20,000 tokens that were held.
    assert 5 * len(" word") <= outcome["output_tokens"] < 10_000
    await until(settled)
    assert (await agent_plane.spend(tenant)).settled_nanousd == outcome["cost_nanousd"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_ours_in_mid_call_leaves_no_hold_and_is_not_free(
    agent_plane: AgentPlane, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the provider will bill is not known then: the whole hold counts, at once."""
    tenant = agent_plane.tenant()

    def broken(*_: object) -> None:
        raise RuntimeError("nobody expected this of content 'secret'")

    monkeypatch.setattr(Answer, "add_chunk" if stream else "add_whole", broken)
    with pytest.raises(openai.InternalServerError) as refused:
        await ask(tenant, "x", stream=stream)
    assert "secret" not in refused.value.response.text
    (outcome,) = await agent_plane.outcomes(tenant)
    spend = await agent_plane.spend(tenant)
    assert outcome["stage"] == "estimated"
    assert (spend.settled_nanousd, spend.held_nanousd) == (outcome["cost_nanousd"], 0)
    assert spend.settled_nanousd > 500 * OUTPUT_PRICE


async def test_a_client_that_leaves_before_the_first_token_pays_the_hold(
    agent_plane: AgentPlane,
) -> None:
    """The model may have thought, unseen and billed, for as long as the client waited."""
    tenant = agent_plane.tenant(max_output_tokens=70)
    agent_plane.model.app.latency_seconds = 5.0
    try:
        with pytest.raises(openai.APITimeoutError):
            await tenant.client.with_options(timeout=0.3).chat.completions.create(
                model=MODEL, messages=user("Think hard"), stream=True
            )

        async def closed() -> bool:
            return bool(await agent_plane.outcomes(tenant))

        await until(closed)
    finally:
        agent_plane.model.app.latency_seconds = 0.0
    (outcome,) = await agent_plane.outcomes(tenant)
    assert (outcome["stage"], outcome["output_tokens"]) == ("estimated", 70)
