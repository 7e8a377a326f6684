"""Claims of threads on a real Postgres."""

from __future__ import annotations

import uuid

import pytest

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import Conflict, NotFound
from tenantplane.core.ids import new_id
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.runtime.threads import Threads, parse_thread_id


def tenant(name: str) -> TenantContext:
    org_id = f"{name}-{uuid.uuid4().hex[:8]}"
    return TenantContext(org_id, org_id, "user:u", "u", "free", "local")


@pytest.fixture
def threads(data_database: Database) -> Threads:
    return Threads(data_database)


async def test_one_run_at_a_time_works_in_a_thread(threads: Threads) -> None:
    acme, first, second = tenant("acme"), new_id(), new_id()
    thread_id = await threads.claim_new(acme, first, 60)
    with pytest.raises(Conflict):
        await threads.claim(acme, thread_id, second, 60)
    await threads.release(acme, thread_id, first)
    await threads.claim(acme, thread_id, second, 60)
    with pytest.raises(Conflict):
        await threads.renew(acme, thread_id, first, 60)
    await threads.renew(acme, thread_id, second, 60)


async def test_a_dead_runs_claim_ages_out_and_is_not_taken_back(threads: Threads) -> None:
    acme, dead, heir = tenant("acme"), new_id(), new_id()
    thread_id = await threads.claim_new(acme, dead, 0)
    await threads.claim(acme, thread_id, heir, 60)
    with pytest.raises(Conflict):
        await threads.renew(acme, thread_id, dead, 60)
    await threads.release(acme, thread_id, dead)
    with pytest.raises(Conflict):
        await threads.claim(acme, thread_id, new_id(), 60)


async def test_unknown_foreign_and_malformed_ids_get_the_same_answer(threads: Threads) -> None:
    acme, bolt = tenant("acme"), tenant("bolt")
    foreign = await threads.claim_new(acme, new_id(), 60)
    problems = []
    for thread_id in (foreign, str(new_id())):
        with pytest.raises(NotFound) as refused:
            await threads.claim(bolt, thread_id, new_id(), 60)
        problems.append(refused.value.problem())
    with pytest.raises(NotFound) as malformed:
        parse_thread_id("acme::1")
    assert problems == [malformed.value.problem()] * 2
