"""When a step is durable, and that runs at the same time keep their states apart."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections import Counter

import pytest
from langchain_core.runnables import RunnableConfig

from tenantplane.core.db.pool import Database
from tenantplane.core.db.provision import Provisioned
from tenantplane.core.ids import new_id
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.memory import Memory
from tests.integration.dataplane.runtime.dying_run import Durability
from tests.integration.dataplane.runtime.graphs import Steps, side_by_side, three_steps

ALL = ["first", "second", "third"]


def thread() -> RunnableConfig:
    return {"configurable": {"thread_id": str(new_id())}}


@pytest.mark.parametrize(("durability", "checkpoints"), [("sync", 5), ("async", 5), ("exit", 1)])
async def test_all_modes_end_in_the_same_state(
    memory: Memory, new_org: str, durability: Durability, checkpoints: int
) -> None:
    saver, config = memory.saver(new_org), thread()
    graph = three_steps().compile(checkpointer=saver)
    for turn in (1, 2):
        assert await graph.ainvoke({"done": []}, config, durability=durability) == {
            "done": ALL * turn
        }
        listed = [item async for item in saver.alist(config)]
        assert len(listed) == checkpoints * turn
    assert (await graph.aget_state(config)).values == {"done": ALL * 2}


@pytest.mark.parametrize(("durability", "kept"), [("sync", ["first"]), ("exit", [])])
async def test_a_killed_process_loses_no_step_that_was_durable(
    data_provisioned: Provisioned,
    data_database: Database,
    new_org: str,
    durability: Durability,
    kept: list[str],
) -> None:
    config, master_key = thread(), secrets.token_hex(32)
    settings = data_provisioned.settings
    shown = {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in settings
    }
    killed = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.dataplane.runtime.dying_run",
        new_org,
        config["configurable"]["thread_id"],
        durability,
        env=os.environ | {"TEST_DATABASE": json.dumps(shown), "TEST_MASTER_KEY": master_key},
    )
    assert await asyncio.wait_for(killed.wait(), 60) == -signal.SIGKILL

    memory = Memory(data_database, DataKeys(data_database, LocalKeyProvider.from_hex(master_key)))
    await memory.start()
    try:
        again: list[str] = []

        async def note(step: str) -> None:
            again.append(step)

        graph = three_steps(note).compile(checkpointer=memory.saver(new_org))
        assert (await graph.aget_state(config)).values.get("done", []) == kept
        resumed: Steps | None = None if kept else {"done": []}
        assert await graph.ainvoke(resumed, config, durability="sync") == {"done": ALL}
        assert again == ALL[len(kept) :]
    finally:
        await memory.stop()


async def test_steps_of_one_run_write_at_the_same_time(memory: Memory, new_org: str) -> None:
    graph = side_by_side(5).compile(checkpointer=memory.saver(new_org))
    config = thread()
    done = await graph.ainvoke({"done": []}, config, durability="sync")
    assert sorted(done["done"]) == [f"step{n}" for n in range(5)]
    saver = memory.saver(new_org)
    before = [item async for item in saver.alist(config)][1]
    written = Counter(channel for _, channel, _ in before.pending_writes or [])
    assert written["done"] == 5


@pytest.mark.req("R5")
async def test_runs_of_many_tenants_never_mix(memory: Memory, new_org: str) -> None:
    """The same thread ids in each org, all at once through one commit."""
    orgs, threads = [f"{new_org}-{n}" for n in range(8)], [thread() for _ in range(4)]

    async def run(org: str, number: int) -> None:
        graph = three_steps().compile(checkpointer=memory.saver(org))
        mark = f"{org}/{number}"
        for turn in (1, 2):
            found = await graph.ainvoke({"done": [mark]}, threads[number], durability="sync")
            assert found == {"done": [mark, *ALL] * turn}

    await asyncio.gather(*(run(org, n) for org in orgs for n in range(len(threads))))
    for org in orgs:
        listed = [item async for item in memory.saver(org).alist(None)]
        assert len(listed) == len(threads) * 2 * 5
        marks = {
            step for item in listed for step in item.checkpoint["channel_values"].get("done", [])
        }
        assert marks == {*ALL, *(f"{org}/{n}" for n in range(len(threads)))}


async def test_writes_may_come_before_their_checkpoint(memory: Memory, new_org: str) -> None:
    saver, config = memory.saver(new_org), thread()
    graph = three_steps().compile(checkpointer=saver)
    await graph.ainvoke({"done": []}, config, durability="sync")
    tuple_ = await saver.aget_tuple(config)
    assert tuple_ is not None
    checkpoint = tuple_.checkpoint | {"id": str(new_id())}
    later: RunnableConfig = {
        "configurable": {**tuple_.config["configurable"], "checkpoint_id": checkpoint["id"]}
    }
    await saver.aput_writes(later, [("done", ["early"])], "task")
    assert await saver.aget_tuple(later) is None
    await saver.aput(tuple_.config, checkpoint, {"source": "loop", "step": 9}, {})
    found = await saver.aget_tuple(later)
    assert found is not None
    assert found.pending_writes == [("task", "done", ["early"])]
