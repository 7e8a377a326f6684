"""The saver on a real Postgres, as the app role."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    Checkpoint,
    CheckpointMetadata,
    empty_checkpoint,
)
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES

from tenantplane.core.errors import Forbidden
from tenantplane.core.ids import new_id
from tenantplane.dataplane.runtime.checkpointer import METADATA_KEYS, TenantSaver
from tenantplane.dataplane.runtime.memory import Memory
from tests.integration.dataplane.runtime.rows import Owner, overwrite, rows_of


@pytest.fixture
def saver(memory: Memory) -> TenantSaver:
    return memory.saver(f"acme-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def neighbour(memory: Memory) -> TenantSaver:
    return memory.saver(f"bolt-{uuid.uuid4().hex[:8]}")


def thread(thread_id: str, **more: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **more}}


def checkpoint_of(text: str) -> Checkpoint:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"messages": [HumanMessage(text, id="1")]}
    checkpoint["channel_versions"] = {"messages": 1}
    return checkpoint


async def put(saver: TenantSaver, thread_id: str, text: str) -> RunnableConfig:
    return await saver.aput(
        thread(thread_id), checkpoint_of(text), {"source": "input", "step": -1}, {"messages": 1}
    )


async def test_it_passes_langgraphs_conformance_suite(memory: Memory) -> None:
    # The suite filters by metadata of its own; ours has an allow-list.
    keys = METADATA_KEYS | {"custom_key", "score"}

    @checkpointer_test(name="TenantSaver")
    async def factory() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        org_id = f"suite-{uuid.uuid4().hex[:8]}"
        yield memory.saver(org_id, metadata_keys=keys)

    report = await validate(factory)
    failures = {name: r.failures for name, r in report.results.items() if r.failures}
    assert failures == {}
    detected = {name for name, result in report.results.items() if result.detected}
    assert detected == {capability.value for capability in ALL_CAPABILITIES}


async def test_a_guessed_thread_of_another_org_is_empty(
    saver: TenantSaver, neighbour: TenantSaver
) -> None:
    thread_id = str(new_id())
    stored = await put(saver, thread_id, "secret")
    assert await saver.aget_tuple(thread(thread_id)) is not None
    assert await neighbour.aget_tuple(thread(thread_id)) is None
    assert await neighbour.aget_tuple(stored) is None
    assert [c async for c in neighbour.alist(None)] == []
    assert [c async for c in neighbour.alist(None, filter={"source": "input"})] == []
    assert len([c async for c in saver.alist(None)]) == 1


async def test_a_neighbour_with_the_same_id_neither_overwrites_nor_deletes(
    saver: TenantSaver, neighbour: TenantSaver
) -> None:
    thread_id = str(new_id())
    stored = await put(saver, thread_id, "mine")
    await put(neighbour, thread_id, "theirs")
    await neighbour.aput_writes(stored, [("messages", "x")], "task")
    await neighbour.adelete_thread(thread_id)
    found = await saver.aget_tuple(stored)
    assert found is not None
    assert found.checkpoint["channel_values"]["messages"][0].content == "mine"
    assert found.pending_writes == []


@pytest.mark.parametrize("thread_id", ["", "other::1", "::", "a\0b", "x" * 201])
async def test_an_id_that_could_blur_the_border_is_refused(
    saver: TenantSaver, thread_id: str
) -> None:
    with pytest.raises(Forbidden):
        await put(saver, thread_id, "x")


@pytest.mark.parametrize("org_id", ["", "Acme", "acme::x", "acme|x"])
def test_a_forgotten_tenant_is_refused(memory: Memory, org_id: str) -> None:
    with pytest.raises(Forbidden) as refused:
        memory.saver(org_id)
    with pytest.raises(Forbidden):
        memory.store(org_id)
    assert refused.value.error_code == "tenant_forgotten"


async def test_only_listed_metadata_is_kept_and_not_in_clear(
    saver: TenantSaver, data_owner: Owner
) -> None:
    config = thread(str(new_id()), access_token="tpk_not_a_real_key")
    config["metadata"] = {"authorization": "Bearer x", "run_id": "r1"}
    metadata: CheckpointMetadata = {
        "source": "loop",
        "step": 3,
        "parents": {"ns": "told-to-nobody"},
    }
    stored = await saver.aput(config, checkpoint_of("q"), metadata, {"messages": 1})
    found = await saver.aget_tuple(stored)
    assert found is not None
    assert found.metadata == {**metadata, "run_id": "r1"}
    (row,) = await rows_of(data_owner, "checkpoint", saver.org_id)
    assert (row["source"], row["step"], row["run_id"]) == ("loop", 3, "r1")
    for text in ("tpk_not_a_real_key", "Bearer", "told-to-nobody"):
        assert text not in json.dumps(row)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"cos\nsystem\n(S'true'\ntR.", id="pickle"),
        pytest.param(b"\x80", id="msgpack-in-clear"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\x01" + bytes(40), id="of-no-key"),
    ],
)
@pytest.mark.parametrize("table", ["checkpoint", "checkpoint_blob", "checkpoint_write"])
@pytest.mark.fault("F25")
async def test_a_row_that_is_not_sealed_is_refused(
    saver: TenantSaver, data_owner: Owner, table: str, body: bytes
) -> None:
    stored = await put(saver, thread_id := str(new_id()), "q")
    await saver.aput_writes(stored, [("messages", "w")], "task")
    await overwrite(data_owner, table, saver.org_id, body)
    for config in (stored, thread(thread_id)):
        with pytest.raises(Forbidden) as refused:
            await saver.aget_tuple(config)
        assert refused.value.error_code == "checkpoint_refused"
    with pytest.raises(Forbidden):
        await anext(saver.alist(thread(thread_id)))


async def test_long_histories_are_listed_page_by_page(saver: TenantSaver) -> None:
    thread_id = str(new_id())
    ids = [
        (await put(saver, thread_id, str(i)))["configurable"]["checkpoint_id"] for i in range(120)
    ]
    listed = [c.checkpoint["id"] async for c in saver.alist(thread(thread_id))]
    assert listed == sorted(ids, reverse=True)
    assert len([c async for c in saver.alist(thread(thread_id), limit=70)]) == 70
