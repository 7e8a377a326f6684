"""What is held for a call: less where a cap is near, a slice at a time where it is long."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from tenantplane.core.errors import HardCapReached
from tenantplane.core.ids import new_id
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.calls import NOTHING_USED, CallRequest
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.models.calls import Completed, ModelCall, Piece
from tenantplane.dataplane.models.prices import LEAST_OUTPUT_TOKENS
from tenantplane.dataplane.models.prompts import prompt_size
from tenantplane.dataplane.models.slices import Slices
from tests.fixtures.runtime import (
    INPUT_PRICE,
    OUTPUT_PRICE,
    AgentPlane,
    TenantUnderTest,
    model_grant,
    until,
)

SLICE, MARGIN = 200, 50
ROOMY = 10_000_000_000


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def prompt_cost(text: str) -> int:
    return prompt_size(user(text), {}, None).most_tokens * INPUT_PRICE


@dataclass
class Streamed:
    """A stream that was read to its end."""

    text: str = ""
    completed: list[Completed] = field(default_factory=list)
    most_held_nanousd: int = 0


def run_of(plane: AgentPlane, tenant: TenantUnderTest, slices: Slices | None = None) -> MeteredRun:
    return MeteredRun(
        plane.meter,
        plane.providers,
        tenant.context,
        tenant.snapshot,
        lambda: tenant.snapshot,
        run_id=new_id(),
        thread_id=None,
        slices=slices or Slices(SLICE, MARGIN),
    )


async def stream(
    plane: AgentPlane,
    tenant: TenantUnderTest,
    run: MeteredRun,
    text: str,
    *,
    look_every: int = 50,
    **options: Any,
) -> Streamed:
    seen, pieces = Streamed(), 0
    call = ModelCall(tenant.snapshot.models[0], user(text), options)
    async with aclosing(run.stream(call)) as items:
        async for item in items:
            if isinstance(item, Piece):
                seen.text += item.text
                pieces += 1
                if pieces % look_every == 0:
                    held = (await plane.spend(tenant)).held_nanousd
                    seen.most_held_nanousd = max(seen.most_held_nanousd, held)
            else:
                seen.completed.append(item)
    return seen


async def hold_of(plane: AgentPlane, tenant: TenantUnderTest) -> int:
    """What the newest intent of the org was held for in the end."""
    async with plane.database.tenant_tx(tenant.org_id) as cursor:
        await cursor.execute(
            "SELECT hold_nanousd FROM dataplane.intent WHERE org_id = %s"
            " ORDER BY intent_id DESC LIMIT 1",
            (tenant.org_id,),
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row["hold_nanousd"])


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_answer_is_cut_to_what_a_cap_has_room_for(
    agent_plane: AgentPlane, streaming: bool
) -> None:
    asked, room = "[[tokens:100]]", 40
    cap = prompt_cost(asked) + room * OUTPUT_PRICE + 1
    tenant = agent_plane.tenant(hard_cap_nanousd=cap)
    create = tenant.client.chat.completions.with_raw_response.create
    if streaming:
        raw = await create(model="assistant-1", messages=user(asked), stream=True)
        headers = raw.headers
        choices = [chunk.choices[0] async for chunk in raw.parse()]
        text = "".join(choice.delta.content or "" for choice in choices)
        reason = choices[-1].finish_reason
    else:
        plain = await create(model="assistant-1", messages=user(asked))
        headers, (choice,) = plain.headers, plain.parse().choices
        text, reason = choice.message.content or "", choice.finish_reason
    assert agent_plane.model.app.calls[-1].body["max_completion_tokens"] == room
    assert (text, reason) == (" word" * room, "length")
    assert headers["x-tenantplane-output-clamped-to"] == str(room)
    (outcome,) = await agent_plane.outcomes(tenant)
    assert (outcome["stage"], outcome["output_tokens"]) == ("actual", room)
    assert outcome["provider_excess"] is False
    assert await hold_of(agent_plane, tenant) == cap


async def test_room_for_hardly_a_word_is_no_room(agent_plane: AgentPlane) -> None:
    cap = prompt_cost("Hello") + LEAST_OUTPUT_TOKENS * OUTPUT_PRICE
    tenant = agent_plane.tenant(hard_cap_nanousd=cap - 1)
    with pytest.raises(openai.APIStatusError) as refused:
        await tenant.client.chat.completions.create(model="assistant-1", messages=user("Hello"))
    assert refused.value.status_code == 402
    enough = agent_plane.tenant(hard_cap_nanousd=cap)
    answered = await enough.client.chat.completions.create(
        model="assistant-1", messages=user("Hello")
    )
    assert answered.choices[0].finish_reason in {"stop", "length"}


async def test_an_answer_with_room_enough_says_nothing_of_caps(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant()
    raw = await tenant.client.chat.completions.with_raw_response.create(
        model="assistant-1", messages=user("Hello")
    )
    assert "x-tenantplane-output-clamped-to" not in raw.headers


@pytest.mark.fault("F30")
async def test_a_long_stream_holds_a_slice_at_a_time(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(max_output_tokens=100_000, hard_cap_nanousd=ROOMY)
    run = run_of(agent_plane, tenant)
    seen = await stream(agent_plane, tenant, run, "[[tokens:900]]")
    # The provider was told all, and wrote all.
    assert agent_plane.model.app.calls[-1].body["max_completion_tokens"] == 100_000
    assert seen.text == " word" * 900
    assert (run.clamped_to, run.output_tokens) == (None, 900)
    (outcome,) = await agent_plane.outcomes(tenant)
    assert (outcome["stage"], outcome["output_tokens"]) == ("actual", 900)
    # A byte counts as a token while it streams: the hold followed those, a slice ahead.
    produced = len(seen.text) * OUTPUT_PRICE
    ahead = prompt_cost("[[tokens:900]]") + 2 * SLICE * OUTPUT_PRICE
    assert 0 < seen.most_held_nanousd <= produced + ahead
    assert (await agent_plane.spend(tenant)).held_nanousd == 0


async def test_a_known_vocabulary_makes_holds_smaller(agent_plane: AgentPlane) -> None:
    text = "[[tokens:300]] " + "Our handbook says how many days of leave there are. " * 20
    holds = {}
    for provider in ("scripted", "counted"):
        tenant = agent_plane.tenant(provider=provider, max_output_tokens=100_000)
        seen = await stream(agent_plane, tenant, run_of(agent_plane, tenant), text)
        assert seen.text == " word" * 300
        holds[provider] = await hold_of(agent_plane, tenant)
    assert holds["counted"] < holds["scripted"] / 2


@pytest.mark.fault("F30")
@pytest.mark.parametrize("provider", ["scripted", "counted"])
@pytest.mark.parametrize("cue", ["[[tokens:5000]]", "[[fault:endless]]"])
async def test_a_stream_is_cut_where_there_is_no_more_room(
    agent_plane: AgentPlane, provider: str, cue: str
) -> None:
    cap = prompt_cost(cue) + 3 * SLICE * OUTPUT_PRICE
    tenant = agent_plane.tenant(provider=provider, max_output_tokens=100_000, hard_cap_nanousd=cap)
    run = run_of(agent_plane, tenant)
    seen = await stream(agent_plane, tenant, run, cue)
    (completed,) = seen.completed
    assert completed.answer.finish_reason == "length"
    # All the room but the margin was used, and the answer is told to have been cut.
    written = completed.answer.produced_tokens
    assert 3 * SLICE - MARGIN < written <= 3 * SLICE + MARGIN
    assert run.clamped_to == written
    (outcome,) = await agent_plane.outcomes(tenant)
    assert (outcome["stage"], outcome["provider_excess"]) == ("estimated", False)
    assert 2 * SLICE * OUTPUT_PRICE < outcome["cost_nanousd"] <= cap
    spend = await agent_plane.spend(tenant)
    assert (spend.settled_nanousd, spend.held_nanousd) == (outcome["cost_nanousd"], 0)

    async def left() -> bool:
        return agent_plane.model.app.calls[-1].ended == "abandoned"

    await until(left)


async def test_room_that_comes_while_it_streams_is_used(agent_plane: AgentPlane) -> None:
    """Another call's hold, which it gives back as that one ends."""
    asked = "[[tokens:120]]"
    cap = prompt_cost(asked) + 1_000 * OUTPUT_PRICE
    tenant = agent_plane.tenant(max_output_tokens=100_000, hard_cap_nanousd=cap)
    # All but a slice is held by another call.
    elsewhere = CallRequest(
        kind="model",
        resource="assistant-1",
        run_id=new_id(),
        call_no=0,
        thread_id=None,
        worst_case_nanousd=NanoUSD((1_000 - SLICE) * OUTPUT_PRICE),
        tokens_estimate=1,
        deadline_seconds=60,
        price_book_version=1,
        audit_request=None,
    )
    other = await agent_plane.meter.open(tenant.context, tenant.snapshot, elsewhere)
    run = run_of(agent_plane, tenant)
    call = ModelCall(tenant.snapshot.models[0], user(asked), {})
    text, closed = "", False
    async with aclosing(run.stream(call)) as items:
        async for item in items:
            if isinstance(item, Piece):
                text += item.text
            if not closed and len(text) > SLICE // 2:
                await other.fail("was not made", NOTHING_USED)
                closed = True
    assert text == " word" * 120
    assert run.clamped_to is None


async def test_what_a_model_thought_unseen_is_held_for_at_the_end(
    agent_plane: AgentPlane,
) -> None:
    """And from then on its streams are held for as a whole."""
    slices = Slices(SLICE, MARGIN)
    tenant = agent_plane.tenant(max_output_tokens=3_000, hard_cap_nanousd=ROOMY)
    asked = "[[reasoning:2000]] [[tokens:10]]"
    await stream(agent_plane, tenant, run_of(agent_plane, tenant, slices), asked)
    (outcome,) = await agent_plane.outcomes(tenant)
    assert (outcome["output_tokens"], outcome["provider_excess"]) == (2_010, False)
    assert await hold_of(agent_plane, tenant) == outcome["cost_nanousd"]
    await stream(agent_plane, tenant, run_of(agent_plane, tenant, slices), asked)
    assert await hold_of(agent_plane, tenant) == prompt_cost(asked) + 3_000 * OUTPUT_PRICE


async def test_what_was_thought_unseen_beyond_a_cap_is_the_platforms_loss(
    agent_plane: AgentPlane,
) -> None:
    asked = "[[reasoning:2000]] [[tokens:10]]"
    cap = prompt_cost(asked) + 500 * OUTPUT_PRICE
    tenant = agent_plane.tenant(max_output_tokens=3_000, hard_cap_nanousd=cap)
    run = run_of(agent_plane, tenant)
    await stream(agent_plane, tenant, run, asked)
    (outcome,) = await agent_plane.outcomes(tenant)
    held = await hold_of(agent_plane, tenant)
    assert outcome["output_tokens"] == 2_010
    assert outcome["cost_nanousd"] == held <= cap
    assert outcome["provider_excess"] is False
    record = await agent_plane.record(tenant, str(run.record_ids[0]))
    assert isinstance(record.response, dict)
    lost = record.response["borne_by_platform_nanousd"]
    assert isinstance(lost, int)
    assert held + lost == outcome["input_tokens"] * INPUT_PRICE + 2_010 * OUTPUT_PRICE


@pytest.mark.fault("F36")
async def test_a_client_that_leaves_a_long_stream_pays_no_more_than_was_held(
    agent_plane: AgentPlane,
) -> None:
    for asked, pieces in (("[[tokens:900]]", 100), ("[[fault:hang]]", 0)):
        tenant = agent_plane.tenant(max_output_tokens=100_000)
        run = run_of(agent_plane, tenant)
        call = ModelCall(tenant.snapshot.models[0], user(asked), {})
        items = run.stream(call)
        if pieces:
            for _ in range(pieces):
                await anext(items)
            await items.aclose()
        else:
            await _leave_while_it_waits(agent_plane, items)
        (outcome,) = await agent_plane.outcomes(tenant)
        held = await hold_of(agent_plane, tenant)
        assert outcome["stage"] == "estimated"
        if pieces:
            assert outcome["output_tokens"] == pieces * len(" word")
        else:  # the model may have thought all the while
            assert outcome["cost_nanousd"] == held
        assert outcome["cost_nanousd"] <= held < 100_000 * OUTPUT_PRICE


async def _leave_while_it_waits(plane: AgentPlane, items: Any) -> None:
    calls = len(plane.model.app.calls)
    waiting = asyncio.ensure_future(anext(items))

    async def asked() -> bool:
        return len(plane.model.app.calls) > calls

    await until(asked)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await items.aclose()


async def test_a_provider_that_ignores_its_limit_is_in_excess(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(max_output_tokens=50)
    await tenant.client.chat.completions.create(
        model="assistant-1", messages=user("[[tokens:80]] [[fault:no-limit]]")
    )
    (outcome,) = await agent_plane.outcomes(tenant)
    assert (outcome["output_tokens"], outcome["provider_excess"]) == (80, True)
    assert outcome["cost_nanousd"] == outcome["input_tokens"] * INPUT_PRICE + 80 * OUTPUT_PRICE


async def test_no_room_at_all_is_refused(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(max_output_tokens=100_000, hard_cap_nanousd=1)
    with pytest.raises(HardCapReached):
        await stream(agent_plane, tenant, run_of(agent_plane, tenant), "x")


PRICED: dict[str, Any] = {
    "cached_input_nanousd_per_token": 500,
    "reasoning_nanousd_per_token": 20_000,
    "image_nanousd": 3_000_000,
}


async def test_cached_and_thought_tokens_cost_their_own_prices(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(models=(model_grant("scripted", **PRICED),))
    await tenant.client.chat.completions.create(
        model="assistant-1", messages=user("[[cached:5]] [[reasoning:30]] [[tokens:20]]")
    )
    (outcome,) = await agent_plane.outcomes(tenant)
    assert outcome["output_tokens"] == 50
    read = (outcome["input_tokens"] - 5) * INPUT_PRICE + 5 * 500
    assert outcome["cost_nanousd"] == read + 30 * 20_000 + 20 * OUTPUT_PRICE


def picture(url: str = "data:image/png;base64,AAAA") -> list[Any]:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return [{"role": "user", "content": parts}]


async def test_an_image_costs_its_price(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(models=(model_grant("scripted", **PRICED),))
    await tenant.client.chat.completions.create(model="assistant-1", messages=picture())
    assert agent_plane.model.app.calls[-1].body["messages"] == picture()
    (outcome,) = await agent_plane.outcomes(tenant)
    most_text = prompt_size(picture(), {}, None).most_tokens
    assert outcome["input_tokens"] > 765 > most_text
    written = outcome["output_tokens"] * OUTPUT_PRICE
    assert outcome["cost_nanousd"] == most_text * INPUT_PRICE + written + 3_000_000


@pytest.mark.fault("F40")
async def test_an_image_without_a_price_is_refused(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant()
    with pytest.raises(openai.BadRequestError) as refused:
        await tenant.client.chat.completions.create(model="assistant-1", messages=picture())
    assert refused.value.code == "images_not_priced"
    assert await agent_plane.outcomes(tenant) == []


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("agent/assistant-1", "data:image/png;base64,AAAA"),
        ("assistant-1", "http://169.254.169.254/a.png"),
        ("assistant-1", "file:///etc/passwd"),
    ],
    ids=["agent", "plain-http", "file"],
)
async def test_what_is_no_image_for_this_model_is_refused(
    agent_plane: AgentPlane, model: str, url: str
) -> None:
    tenant = agent_plane.tenant(models=(model_grant("scripted", **PRICED),))
    with pytest.raises(openai.BadRequestError):
        await tenant.client.chat.completions.create(model=model, messages=picture(url))


async def test_a_tool_costs_its_price_and_a_refused_one_nothing(agent_plane: AgentPlane) -> None:
    prices = {"clock": 7_000_000, "rm": 9_000_000}
    for cue, price in (("[[call:clock {}]]", 7_000_000), ("[[call:rm {}]]", 0)):
        tenant = agent_plane.tenant(tool_nanousd=prices)
        await tenant.client.chat.completions.create(model="agent/assistant-1", messages=user(cue))
        costs = [o["cost_nanousd"] for o in await agent_plane.outcomes(tenant)]
        assert len(costs) == 3
        assert costs[1] == price  # model, tool, model
        assert (await agent_plane.spend(tenant)).settled_nanousd == sum(costs)


async def test_a_tool_that_costs_more_than_there_is_ends_the_run(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(tool_nanousd={"clock": ROOMY + 1}, hard_cap_nanousd=ROOMY)
    with pytest.raises(openai.APIStatusError) as refused:
        await tenant.client.chat.completions.create(
            model="agent/assistant-1", messages=user("[[call:clock {}]]")
        )
    assert refused.value.status_code == 402
