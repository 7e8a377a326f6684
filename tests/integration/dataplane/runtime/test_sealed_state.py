"""State at rest: nothing of it in clear, and no ciphertext opens anywhere but in its own place."""

from __future__ import annotations

import json
from typing import LiteralString

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import Forbidden
from tenantplane.core.ids import new_id
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.checkpointer import TenantSaver
from tenantplane.dataplane.runtime.memory import Memory
from tests.integration.dataplane.runtime.rows import STATE_TABLES, Owner, changed, rows_of

SECRET = "the combination is 4711"
PUT: tuple[str, ...] = ("small", "messages")


async def remember(saver: TenantSaver, thread_id: str, version: int = 1) -> RunnableConfig:
    """A small value, a large one and a write, all of them secret."""
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"small": SECRET, "messages": [HumanMessage(SECRET, id="1")]}
    versions: dict[str, str | int | float] = dict.fromkeys(PUT, version)
    checkpoint["channel_versions"] = versions
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    stored = await saver.aput(config, checkpoint, {"source": "input", "step": -1}, versions)
    await saver.aput_writes(stored, [("messages", SECRET), ("small", SECRET)], "task")
    return stored


async def refused(saver: TenantSaver, config: RunnableConfig) -> str:
    with pytest.raises(Forbidden) as caught:
        await saver.aget_tuple(config)
    return caught.value.error_code


async def test_nothing_stands_in_clear(memory: Memory, data_owner: Owner, new_org: str) -> None:
    saver, store = memory.saver(new_org), memory.store(new_org)
    stored = await remember(saver, str(new_id()))
    await store.aput(("safe",), "key", {"text": SECRET})
    for table in (*STATE_TABLES, "store_item"):
        rows = await rows_of(data_owner, table, new_org)
        assert rows
        text = json.dumps(rows)
        for form in (SECRET, SECRET.encode().hex(), "4711", b"4711".hex()):
            assert form not in text, table
    found = await saver.aget_tuple(stored)
    assert found is not None
    assert found.checkpoint["channel_values"]["small"] == SECRET


_MOVES: dict[str, LiteralString] = {
    "checkpoint to another id": """
        UPDATE dataplane.checkpoint a SET body = b.body FROM dataplane.checkpoint b
         WHERE a.org_id = %(org)s AND b.org_id = %(org)s AND a.thread_id = b.thread_id
           AND a.checkpoint_id <> b.checkpoint_id""",
    "checkpoint under another parent": """
        UPDATE dataplane.checkpoint SET parent_checkpoint_id = 'other' WHERE org_id = %(org)s""",
    "value to another version": """
        UPDATE dataplane.checkpoint_blob a SET body = b.body FROM dataplane.checkpoint_blob b
         WHERE a.org_id = %(org)s AND b.org_id = %(org)s AND a.blob_id <> b.blob_id""",
    "value away": "DELETE FROM dataplane.checkpoint_blob WHERE org_id = %(org)s",
    "write to another channel": """
        UPDATE dataplane.checkpoint_write a SET body = b.body FROM dataplane.checkpoint_write b
         WHERE a.org_id = %(org)s AND b.org_id = %(org)s AND a.checkpoint_id = b.checkpoint_id
           AND a.idx <> b.idx""",
    "write to another place in the order": """
        UPDATE dataplane.checkpoint_write SET task_path = 'z' WHERE org_id = %(org)s""",
    "write to another column": """
        UPDATE dataplane.checkpoint_write w SET body = c.body FROM dataplane.checkpoint c
         WHERE w.org_id = %(org)s AND c.org_id = %(org)s""",
}


@pytest.mark.fault("F60")
@pytest.mark.parametrize("move", _MOVES)
async def test_a_ciphertext_opens_in_its_own_row_alone(
    memory: Memory, data_owner: Owner, new_org: str, move: str
) -> None:
    saver, thread_id = memory.saver(new_org), str(new_id())
    stored = [await remember(saver, thread_id, version) for version in (1, 2)]
    await changed(data_owner, _MOVES[move], org=new_org)
    for config in stored:
        assert await refused(saver, config) == "checkpoint_refused"


@pytest.mark.fault("F60")
async def test_a_ciphertext_opens_in_its_own_thread_and_org_alone(
    memory: Memory, data_owner: Owner, new_org: str
) -> None:
    saver, other = memory.saver(new_org), memory.saver(f"{new_org}-b")
    first, second, foreign = "thread-1", "thread-2", "thread-1"
    await remember(saver, first)
    await other.aget_tuple(await remember(other, foreign))
    stored = await saver.aget_tuple(await remember(saver, second))
    assert stored is not None
    for org, thread_id, reader in ((new_org, first, saver), (f"{new_org}-b", foreign, other)):
        await changed(
            data_owner,
            """UPDATE dataplane.checkpoint a
                  SET body = b.body, checkpoint_id = b.checkpoint_id FROM dataplane.checkpoint b
                WHERE a.org_id = %(org)s AND a.thread_id = %(thread)s
                  AND b.org_id = %(source)s AND b.thread_id = %(source_thread)s""",
            org=org,
            thread=f"{org}::{thread_id}",
            source=new_org,
            source_thread=f"{new_org}::{second}",
        )
        config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        assert await refused(reader, config) == "checkpoint_refused"


async def test_what_an_erased_key_sealed_is_gone(
    memory: Memory, data_database: Database, data_owner: Owner, new_org: str
) -> None:
    stored = await remember(memory.saver(new_org), str(new_id()))
    await memory.store(new_org).aput(("a",), "k", {"text": SECRET})
    await changed(data_owner, "DELETE FROM dataplane.org_key WHERE org_id = %(org)s", org=new_org)
    # Another process, which has not opened the key before.
    provider = LocalKeyProvider(bytes(range(32)))
    later = Memory(data_database, DataKeys(data_database, provider))
    await later.start()
    try:
        assert await refused(later.saver(new_org), stored) == "checkpoint_refused"
        with pytest.raises(Forbidden):
            await later.store(new_org).aget(("a",), "k")
    finally:
        await later.stop()
