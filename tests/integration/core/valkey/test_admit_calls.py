"""Calls at a time: open holds are counted exactly, through every way in which a hold may end."""

from __future__ import annotations

import secrets
from dataclasses import replace

from tenantplane.core.valkey import keys
from tenantplane.core.valkey.answers import Admitted, Installed, Placing, Reason, Refused, Spend
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import Installation, InstalledHold, Level, Stage
from tests.fixtures.valkey import SESSION_EPOCH
from tests.integration.core.valkey.builders import END, month, request, slot_of

ORG = Level("org", "acme", periods=(month(),), concurrent_calls=2)


async def calls(store: AdmissionStore, root: str, level: Level = ORG) -> int:
    spend = await store.spend(root, SESSION_EPOCH, [level])
    assert isinstance(spend, Spend)
    (found,) = spend.calls
    assert found.calls_limit == level.concurrent_calls
    return found.calls


async def test_one_call_too_many_is_refused_and_admitted_when_another_ends(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    first = request(installed_root, ORG, hold_nanousd=1)
    for hold in (first, request(installed_root, ORG, hold_nanousd=1)):
        assert isinstance(await admission_store.admit(hold), Admitted)
    third = request(installed_root, ORG, hold_nanousd=1)
    refused = await admission_store.admit(third)
    assert refused == Refused(Reason.CONCURRENCY, "org", "acme", 2, 2, None)
    await admission_store.settle(installed_root, SESSION_EPOCH, first.hold_id, Stage.ACTUAL, 1)
    assert await calls(admission_store, installed_root) == 1
    assert isinstance(await admission_store.admit(third), Admitted)
    assert await calls(admission_store, installed_root) == 2


async def test_a_repeat_or_a_larger_hold_counts_once_and_a_correction_gives_nothing_back(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    hold = request(installed_root, ORG, hold_nanousd=10)
    for amount in (10, 10, 20):
        await admission_store.admit(replace(hold, hold_nanousd=amount))
        assert await calls(admission_store, installed_root) == 1
    for stage in (Stage.ESTIMATED, Stage.ESTIMATED, Stage.ACTUAL):
        await admission_store.settle(installed_root, SESSION_EPOCH, hold.hold_id, stage, 5)
        assert await calls(admission_store, installed_root) == 0


async def test_a_call_that_costs_nothing_counts_and_is_swept(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    """A free tool of a user without any account: its count must not outlive a dead process."""
    user = Level("user", "acme/u", concurrent_calls=1)
    free = request(installed_root, user)
    await admission_store.admit(free)
    refused = await admission_store.admit(request(installed_root, user))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.CONCURRENCY
    _, deadlines, _ = keys.of_root(installed_root, SESSION_EPOCH)
    await admission_store._redis.zadd(deadlines, {free.hold_id: 1})  # as if its time had passed
    expired = await admission_store.expired(installed_root, SESSION_EPOCH)
    assert isinstance(expired, tuple)
    assert [hold.hold_id for hold in expired] == [free.hold_id]
    await admission_store.release(installed_root, SESSION_EPOCH, free.hold_id)
    assert await calls(admission_store, installed_root, user) == 0
    money, *_ = keys.of_root(installed_root, SESSION_EPOCH)
    fields = await admission_store._redis.hkeys(money)
    assert not [field for field in fields if "open:" in str(field)], "counts of nobody stay"


async def test_a_refusal_further_down_counts_no_call(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    poor = Level("user", "acme/u", periods=(month(0),))
    await admission_store.admit(request(installed_root, ORG, poor, hold_nanousd=1))
    assert await calls(admission_store, installed_root) == 0


async def test_an_install_restores_the_counts_from_the_accounts_of_open_holds(
    admission_store: AdmissionStore,
) -> None:
    root = f"root-{secrets.token_hex(6)}"
    slots = (slot_of(ORG, month()),)
    installation = Installation(
        root,
        SESSION_EPOCH,
        holds=[
            InstalledHold("open", 5, END, slots),
            InstalledHold("free", 0, END, slots),
            InstalledHold("done", 5, END, slots, estimated=True),
        ],
    )
    assert await admission_store.install(installation) == Installed()
    assert await calls(admission_store, root) == 2
    assert isinstance(await admission_store.admit(request(root, ORG)), Refused)
    for hold_id in ("free", "open"):
        await admission_store.settle(root, SESSION_EPOCH, hold_id, Stage.ACTUAL, 0)
    await admission_store.settle(root, SESSION_EPOCH, "done", Stage.ACTUAL, 5)
    assert await calls(admission_store, root) == 0


async def test_enlarging_needs_no_further_call(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    one = replace(ORG, concurrent_calls=1)
    hold = request(installed_root, one, hold_nanousd=1)
    await admission_store.admit(hold)
    larger = await admission_store.admit(replace(hold, hold_nanousd=2))
    assert isinstance(larger, Admitted)
    assert larger.placing is Placing.ENLARGED
