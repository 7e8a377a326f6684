"""What of a history goes, and that nothing else does."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import InvalidInput
from tenantplane.core.ids import new_id
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.runtime.checkpointer import TenantSaver
from tenantplane.dataplane.runtime.memory import Memory
from tenantplane.dataplane.runtime.retention import Retention
from tenantplane.dataplane.runtime.settings import RuntimeSettings
from tenantplane.dataplane.runtime.threads import Threads
from tests.integration.dataplane.runtime.graphs import three_steps
from tests.integration.dataplane.runtime.rows import STATE_TABLES, Owner, changed, rows_of

DAY = 1.0


def of(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


async def turns(saver: TenantSaver, thread_id: str, count: int) -> None:
    graph = three_steps().compile(checkpointer=saver)
    for _ in range(count):
        await graph.ainvoke({"done": []}, of(thread_id), durability="sync")


async def counted(owner: Owner, org_id: str) -> list[int]:
    return [len(await rows_of(owner, table, org_id)) for table in STATE_TABLES]


async def test_the_newest_stay_whole_and_go_on(
    memory: Memory, data_owner: Owner, new_org: str
) -> None:
    saver, thread_id = memory.saver(new_org), str(new_id())
    await turns(saver, thread_id, 4)
    before = [item async for item in saver.alist(of(thread_id))]
    await saver.akeep_newest(thread_id, 6, slack=len(before))
    assert [item async for item in saver.alist(of(thread_id))] == before
    await saver.akeep_newest(thread_id, 6)
    assert [item async for item in saver.alist(of(thread_id))] == before[:6]
    checkpoints, blobs, _ = await counted(data_owner, new_org)
    assert checkpoints == 6
    assert blobs <= 6  # none that only the others consisted of
    await turns(saver, thread_id, 1)
    state = await saver.aget_tuple(of(thread_id))
    assert state is not None
    assert len(state.checkpoint["channel_values"]["done"]) == 5 * 3


async def test_prune_may_be_called_while_others_are_in_transactions_and_runs(
    memory: Memory, data_database: Database, new_org: str
) -> None:
    saver, threads = memory.saver(new_org), [str(new_id()) for _ in range(3)]
    await asyncio.gather(*(turns(saver, thread_id, 2) for thread_id in threads))
    async with data_database.tenant_tx(new_org) as cursor:
        await cursor.execute("SELECT count(*) FROM dataplane.checkpoint")
        await asyncio.gather(
            saver.aprune(threads[:2]), saver.aprune(threads[:1]), turns(saver, threads[2], 1)
        )
    kept = [len([i async for i in saver.alist(of(thread_id))]) for thread_id in threads]
    assert kept == [1, 1, 15]
    with pytest.raises(InvalidInput):
        await saver.aprune(threads[0])
    with pytest.raises(InvalidInput):
        await saver.aprune(threads, strategy="keep_nothing")


async def test_a_deleted_thread_leaves_nothing(
    memory: Memory, data_database: Database, data_owner: Owner, new_org: str
) -> None:
    saver, threads = memory.saver(new_org), Threads(data_database)
    tenant = TenantContext(new_org, new_org, "user:u", "u", "free", "local")
    gone = await threads.claim_new(tenant, new_id(), 60)
    other = await threads.claim_new(tenant, new_id(), 60)
    for thread_id in (gone, other):
        await turns(saver, thread_id, 1)
    everything = await counted(data_owner, new_org)
    await saver.adelete_thread(gone)
    assert await counted(data_owner, new_org) == [count // 2 for count in everything]
    assert [row["thread_id"] for row in await rows_of(data_owner, "thread", new_org)] == [
        f"{new_org}::{other}"
    ]


class Deltas(TypedDict):
    said: Annotated[
        list[str], DeltaChannel(lambda state, writes: [*state, *(w for ws in writes for w in ws)])
    ]
    turn: Annotated[int, operator.add]


async def test_a_delta_channel_is_rebuilt_after_pruning(memory: Memory, new_org: str) -> None:
    """Its checkpoints hold no value: the writes before them do, and those stay."""
    saver, thread_id = memory.saver(new_org), str(new_id())

    async def say(state: Deltas) -> dict[str, Any]:
        return {"said": [f"turn {state['turn']}"]}

    graph = StateGraph(Deltas)
    graph.add_node("say", say)
    graph.add_edge(START, "say")
    graph.add_edge("say", END)
    compiled = graph.compile(checkpointer=saver)
    for _ in range(3):
        await compiled.ainvoke({"said": ["hello"], "turn": 1}, of(thread_id), durability="sync")
    said = (await compiled.aget_state(of(thread_id))).values["said"]
    assert said == [text for turn in (1, 2, 3) for text in ("hello", f"turn {turn}")]
    await saver.aprune([thread_id])
    assert (await compiled.aget_state(of(thread_id))).values["said"] == said
    await saver.acopy_thread(thread_id, copied := str(new_id()))
    assert (await compiled.aget_state(of(copied))).values["said"] == said


async def test_threads_go_when_nobody_touched_them_for_long(
    memory: Memory, data_database: Database, data_owner: Owner, new_org: str
) -> None:
    saver, threads = memory.saver(new_org), Threads(data_database)
    tenant = TenantContext(new_org, new_org, "user:u", "u", "free", "local")
    run = new_id()
    old, busy, fresh = [await threads.claim_new(tenant, run, 600) for _ in range(3)]
    for thread_id in (old, busy, fresh):
        await turns(saver, thread_id, 1)
    for thread_id in (old, fresh):
        await threads.release(tenant, thread_id, run)
    await changed(
        data_owner,
        "UPDATE dataplane.thread SET updated_at = now() - interval '2 days'"
        " WHERE org_id = %(org)s AND thread_id = ANY (%(threads)s)",
        org=new_org,
        threads=[f"{new_org}::{thread_id}" for thread_id in (old, busy)],
    )
    kept_for_ever = Retention(data_database, RuntimeSettings())
    assert (await kept_for_ever.sweep())[0] == 0
    assert len(await rows_of(data_owner, "thread", new_org)) == 3
    await Retention(data_database, RuntimeSettings(thread_ttl_days=DAY)).sweep()
    left = {f"{new_org}::{thread_id}" for thread_id in (busy, fresh)}
    for table in ("thread", *STATE_TABLES):
        assert {row["thread_id"] for row in await rows_of(data_owner, table, new_org)} == left


async def test_items_past_their_time_are_not_read_and_then_go(
    memory: Memory, data_database: Database, data_owner: Owner, new_org: str
) -> None:
    store = memory.store(new_org)
    await store.aput(("a",), "short", {"n": 1}, ttl=1)
    await store.aput(("a",), "read", {"n": 2}, ttl=1)
    await store.aput(("a",), "kept", {"n": 3})
    await changed(
        data_owner,
        "UPDATE dataplane.store_item SET expires_at = now() + interval '5 seconds'"
        " WHERE org_id = %(org)s AND key = 'read'",
        org=new_org,
    )
    assert await store.aget(("a",), "read") is not None  # and lives a minute again
    await changed(
        data_owner,
        "UPDATE dataplane.store_item SET expires_at = expires_at - interval '61 seconds'"
        " WHERE org_id = %(org)s AND key = 'short'",
        org=new_org,
    )
    rows = {row["key"]: row for row in await rows_of(data_owner, "store_item", new_org)}
    assert rows["read"]["expires_at"] > rows["read"]["updated_at"]
    assert await store.aget(("a",), "short") is None
    assert {item.key for item in await store.asearch(("a",))} == {"read", "kept"}
    assert len(rows) == 3
    await Retention(data_database, RuntimeSettings()).sweep()
    left = {row["key"] for row in await rows_of(data_owner, "store_item", new_org)}
    assert left == {"read", "kept"}
