"""held → released → estimated → actual: each step once, on the accounts of the hold."""

import asyncio
import time

from tenantplane.core.valkey.answers import (
    Admitted,
    AlreadySettled,
    ExpiredHold,
    NoHold,
    Settled,
    Spend,
)
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import AdmitRequest, Level, Stage
from tests.fixtures.valkey import SESSION_EPOCH
from tests.integration.core.valkey.builders import month, only, org, request


async def hold(store: AdmissionStore, root: str, *levels: Level, amount: int = 100) -> AdmitRequest:
    placed = request(root, *(levels or (org(),)), hold_nanousd=amount)
    assert isinstance(await store.admit(placed), Admitted)
    return placed


async def amounts(store: AdmissionStore, root: str) -> tuple[int, int]:
    account = only(await store.spend(root, SESSION_EPOCH, [org()]))
    return account.settled_nanousd, account.held_nanousd


async def test_settling_ends_the_hold_at_all_its_levels(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    levels = (Level("umbrella", "u", periods=(month(), month(name="day"))), org())
    placed = await hold(admission_store, installed_root, *levels)
    answer = await admission_store.settle(
        installed_root, SESSION_EPOCH, placed.hold_id, Stage.ACTUAL, 30
    )
    assert answer == Settled(30)
    spend = await admission_store.spend(installed_root, SESSION_EPOCH, levels)
    assert isinstance(spend, Spend)
    assert [(a.settled_nanousd, a.held_nanousd) for a in spend.periods] == [(30, 0)] * 3


async def test_fifty_settlements_at_once_count_once(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    placed = await hold(admission_store, installed_root)
    answers = await asyncio.gather(
        *(
            admission_store.settle(installed_root, SESSION_EPOCH, placed.hold_id, Stage.ACTUAL, 30)
            for _ in range(50)
        )
    )
    assert answers.count(Settled(30)) == 1
    assert answers.count(AlreadySettled("actual", 30)) == 49
    assert await amounts(admission_store, installed_root) == (30, 0)


async def test_an_actual_report_corrects_an_estimate_both_ways(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    for estimate, actual in ((100, 40), (10, 70)):
        placed = await hold(admission_store, installed_root)
        args = (installed_root, SESSION_EPOCH, placed.hold_id)
        assert await admission_store.settle(*args, Stage.ESTIMATED, estimate) == Settled(estimate)
        assert await admission_store.settle(*args, Stage.ESTIMATED, 5) == AlreadySettled(
            "estimated", estimate
        )
        assert await admission_store.settle(*args, Stage.ACTUAL, actual) == Settled(
            actual - estimate
        )
        assert await admission_store.settle(*args, Stage.ESTIMATED, 5) == AlreadySettled(
            "actual", actual
        )
    assert await amounts(admission_store, installed_root) == (110, 0)


async def test_more_than_was_held_is_recorded_past_the_cap(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    placed = await hold(admission_store, installed_root, org(100))
    answer = await admission_store.settle(
        installed_root, SESSION_EPOCH, placed.hold_id, Stage.ACTUAL, 250
    )
    assert answer == Settled(250)
    assert await amounts(admission_store, installed_root) == (250, 0)


async def test_a_released_hold_costs_nothing_until_a_call_turns_out_to_have_been_made(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    placed = await hold(admission_store, installed_root)
    args = (installed_root, SESSION_EPOCH, placed.hold_id)
    assert await admission_store.release(*args) == Settled(0)
    assert await admission_store.release(*args) == AlreadySettled("released", 0)
    assert await amounts(admission_store, installed_root) == (0, 0)
    assert await admission_store.settle(*args, Stage.ACTUAL, 30) == Settled(30)
    assert await admission_store.release(*args) == AlreadySettled("actual", 30)
    assert await amounts(admission_store, installed_root) == (30, 0)


async def test_an_unknown_hold_changes_nothing(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    answer = await admission_store.settle(installed_root, SESSION_EPOCH, "none", Stage.ACTUAL, 30)
    assert answer == NoHold()
    assert await amounts(admission_store, installed_root) == (0, 0)


async def test_a_hold_past_its_deadline_is_listed_still_counts_and_ends_once(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    placed = request(installed_root, org(100), hold_nanousd=100, ttl_seconds=1)
    admitted = await admission_store.admit(placed)
    assert isinstance(admitted, Admitted)
    await hold(admission_store, installed_root, Level("user", "u", periods=(month(),)))
    assert await admission_store.expired(installed_root, SESSION_EPOCH) == ()
    early = await admission_store.release(
        installed_root, SESSION_EPOCH, placed.hold_id, expired_only=True
    )
    assert early == AlreadySettled("held", 100)
    listed: object = ()
    end = time.monotonic() + 10
    while listed == () and time.monotonic() < end:
        listed = await admission_store.expired(installed_root, SESSION_EPOCH)
    assert listed == (ExpiredHold(placed.hold_id, admitted.deadline_unix_ms),)
    assert await amounts(admission_store, installed_root) == (0, 100)
    released = await admission_store.release(
        installed_root, SESSION_EPOCH, placed.hold_id, expired_only=True
    )
    assert released == Settled(0)
    assert await admission_store.expired(installed_root, SESSION_EPOCH) == ()
    assert await amounts(admission_store, installed_root) == (0, 0)
