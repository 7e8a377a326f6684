"""What a saver of one org asks for and writes, before a database is asked."""

from __future__ import annotations

from typing import Any, cast

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import Forbidden
from tenantplane.core.keys.envelope import DataKey, new_data_key
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.checkpoint_form import Seal
from tenantplane.dataplane.runtime.checkpoint_journal import CheckpointJournal
from tenantplane.dataplane.runtime.checkpoint_rows import StateRows, ThreadKey
from tenantplane.dataplane.runtime.checkpointer import TenantSaver
from tenantplane.dataplane.runtime.serializer import StrictSerializer
from tenantplane.dataplane.runtime.store import TenantStore
from tests.fixtures.hostile_state import TOLD


class OneKey:
    """Stands for DataKeys."""

    def __init__(self) -> None:
        self.key = DataKey(new_data_key())

    async def of(self, org_id: str) -> DataKey:
        return self.key


class Listening:
    """Stands for the journal: keeps what it is asked and given, and has nothing."""

    def __init__(self) -> None:
        self.asked: list[ThreadKey] = []
        self.given: list[StateRows] = []

    async def latest(self, thread: ThreadKey) -> list[Any]:
        self.asked.append(thread)
        return []

    async def append(self, rows: StateRows) -> None:
        self.given.append(rows)


def saver_of(org_id: str, journal: Listening, keys: OneKey) -> TenantSaver:
    return TenantSaver(
        cast("Database", None),
        cast("DataKeys", keys),
        cast("CheckpointJournal", journal),
        org_id,
    )


def store_of(org_id: str) -> TenantStore:
    return TenantStore(cast("Database", None), cast("DataKeys", OneKey()), org_id)


@pytest.mark.parametrize("org_id", ["", "Acme", "acme::x", "acme|x"])
def test_without_a_tenant_there_is_no_saver_and_no_store(org_id: str) -> None:
    with pytest.raises(Forbidden):
        saver_of(org_id, Listening(), OneKey())
    with pytest.raises(Forbidden):
        store_of(org_id)


async def test_a_thread_is_asked_for_under_its_org() -> None:
    journal = Listening()
    config: RunnableConfig = {"configurable": {"thread_id": "t1", "checkpoint_ns": ""}}
    assert await saver_of("acme", journal, OneKey()).aget_tuple(config) is None
    assert journal.asked == [ThreadKey("acme", "acme::t1", "")]


@pytest.mark.fault("F24")
@pytest.mark.parametrize("thread_id", ["", "globex::t1", "::", "a\0b", "x" * 201])
async def test_an_id_that_could_blur_the_border_is_asked_of_nobody(thread_id: str) -> None:
    journal = Listening()
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    with pytest.raises(Forbidden):
        await saver_of("acme", journal, OneKey()).aget_tuple(config)
    assert journal.asked == []


async def test_of_metadata_only_what_is_listed_is_written() -> None:
    """LangGraph puts there all of `configurable`: tokens, and whatever a caller brings along."""
    journal, keys = Listening(), OneKey()
    told = {"source": "loop", "step": 3, "parents": {}, "run_id": "r1"}
    hostile = dict.fromkeys((*TOLD, "anything"), "tpk_not_a_real_key")
    config: RunnableConfig = {
        "configurable": {"thread_id": "t1", "checkpoint_ns": "", **hostile},
        "metadata": hostile,
    }
    metadata = cast("CheckpointMetadata", told | hostile)
    await saver_of("acme", journal, keys).aput(config, empty_checkpoint(), metadata, {})
    ((row,),) = [rows.checkpoints for rows in journal.given]
    found = {
        "kind": "checkpoint",
        "thread_id": row.thread_id,
        "checkpoint_ns": row.ns,
        "checkpoint_id": row.checkpoint_id,
        "name": row.parent_id,
        "body": row.body,
    }
    (stored,) = Seal(keys.key, StrictSerializer()).open("acme", [found])
    assert stored.metadata == told
