"""What agents remember: a saver of one org over rows of two, as the running plane has written them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig

from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.memory import Memory
from tests.fixtures.isolation import PlaneDatabase, Tenant, TwoTenants
from tests.fixtures.proofs import ProofCases

pytestmark = pytest.mark.proof


def _thread(tenant: Tenant, **more: str) -> RunnableConfig:
    return {"configurable": {"thread_id": tenant.thread_id, "checkpoint_ns": "", **more}}


@pytest.mark.req("R5", "R6")
@pytest.mark.fault("F24")
async def test_a_guessed_thread_is_empty_and_a_list_without_a_filter_is_ones_own(
    isolation_databases: Mapping[str, PlaneDatabase],
    two_tenants: TwoTenants,
    proof_cases: ProofCases,
) -> None:
    # As the plane itself opens it: under its own master key.
    master = two_tenants.peers.data.environment["TENANTPLANE_MASTER_KEY"]
    database = isolation_databases["data"].pool
    memory = Memory(database, DataKeys(database, LocalKeyProvider.from_hex(master)))
    await memory.start()
    try:
        proof_cases.add(await _reach_across(memory, two_tenants))
    finally:
        await memory.stop()


async def _reach_across(memory: Memory, two_tenants: TwoTenants) -> int:
    theirs = memory.saver(two_tenants.victim.org_id)
    mine = memory.saver(two_tenants.intruder.org_id)
    guessed = await theirs.aget_tuple(_thread(two_tenants.victim))
    assert guessed is not None
    before = [item.checkpoint async for item in theirs.alist(None)]

    for config in (_thread(two_tenants.victim), guessed.config):
        assert await mine.aget_tuple(config) is None
        assert [item async for item in mine.alist(config)] == []
    searches: tuple[dict[str, Any], ...] = ({}, {"filter": {}}, {"filter": {"source": "input"}})
    for search in searches:
        listed = [item.config["configurable"] async for item in mine.alist(None, **search)]
        assert {c["thread_id"] for c in listed} == {two_tenants.intruder.thread_id}
    await mine.adelete_thread(two_tenants.victim.thread_id)
    await mine.aput_writes(guessed.config, [("messages", "planted")], "task")
    await mine.aprune([two_tenants.victim.thread_id], strategy="delete")
    await mine.adelete_for_runs([two_tenants.victim.run_id])
    await mine.acopy_thread(two_tenants.victim.thread_id, "copied")
    assert await mine.aget_tuple({"configurable": {"thread_id": "copied"}}) is None
    await mine.adelete_thread(two_tenants.victim.thread_id)  # what it planted, under its own name

    assert [item.checkpoint async for item in theirs.alist(None)] == before
    return 4 + len(searches) + 7
