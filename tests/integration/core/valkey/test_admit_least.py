"""A hold may be smaller than asked for, down to what is of use; levels in shadow refuse nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenantplane.core.money import MAX_CAP
from tenantplane.core.valkey.answers import Admitted, Placing, Reason, Refused, Spend
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import Level, Stage
from tests.fixtures.valkey import SESSION_EPOCH
from tests.integration.core.valkey.builders import month, only, org, request

USER = Level("user", "acme/u", periods=(month(70),))


@pytest.mark.parametrize(
    ("asked", "least", "held"), [(50, 10, 50), (100, 10, 70), (100, 70, 70), (100, 71, None)]
)
async def test_the_largest_hold_that_fits_under_all_caps_is_placed(
    admission_store: AdmissionStore,
    installed_root: str,
    asked: int,
    least: int,
    held: int | None,
) -> None:
    wanted = request(installed_root, org(90), USER, hold_nanousd=asked, least_nanousd=least)
    answer = await admission_store.admit(wanted)
    if held is None:
        assert isinstance(answer, Refused)
        assert (answer.level_kind, answer.limit, answer.used) == ("user", 70, 0)
    else:
        assert isinstance(answer, Admitted)
        assert answer.held_nanousd == held
    spend = await admission_store.spend(installed_root, SESSION_EPOCH, [org(90), USER])
    assert isinstance(spend, Spend)
    assert {period.held_nanousd for period in spend.periods} == {held or 0}


async def test_the_level_that_has_the_least_room_is_named(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    refused = await admission_store.admit(request(installed_root, org(90), USER, hold_nanousd=100))
    assert isinstance(refused, Refused)
    assert (refused.level_kind, refused.limit) == ("user", 70)


async def test_a_hold_is_enlarged_by_as_much_as_there_is(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    hold = request(installed_root, org(100), hold_nanousd=40)
    await admission_store.admit(hold)
    larger = replace(hold, hold_nanousd=500, least_nanousd=41)
    first = await admission_store.admit(larger)
    assert isinstance(first, Admitted)
    assert (first.placing, first.held_nanousd) == (Placing.ENLARGED, 100)
    again = await admission_store.admit(larger)
    assert isinstance(again, Admitted)
    assert (again.placing, again.held_nanousd) == (Placing.SAME, 100)
    more = await admission_store.admit(replace(larger, least_nanousd=101))
    assert isinstance(more, Refused)
    assert (
        only(await admission_store.spend(installed_root, SESSION_EPOCH, [org()])).held_nanousd
        == 100
    )


async def test_a_repeat_stands_where_the_cap_was_passed_meanwhile(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    other = request(installed_root, org(100), hold_nanousd=40)
    await admission_store.admit(other)
    hold = request(installed_root, org(100), hold_nanousd=90, least_nanousd=50)
    await admission_store.admit(hold)
    await admission_store.settle(installed_root, SESSION_EPOCH, other.hold_id, Stage.ACTUAL, 99)
    again = await admission_store.admit(hold)
    assert isinstance(again, Admitted)
    assert (again.placing, again.held_nanousd) == (Placing.SAME, 60)


async def test_a_level_in_shadow_counts_and_reports_and_refuses_nothing(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    shadow = Level("org", "acme", 1, 10, (month(hard=20, soft=5),), False, 1, shadow=True)
    first = await admission_store.admit(request(installed_root, shadow, hold_nanousd=15, tokens=9))
    assert isinstance(first, Admitted)
    assert first.shadowed == ()
    second = await admission_store.admit(request(installed_root, shadow, hold_nanousd=15, tokens=9))
    assert isinstance(second, Admitted)
    assert [(r.reason, r.limit, r.used) for r in second.shadowed] == [
        (Reason.REQUESTS, 1, 1),
        (Reason.TOKENS, 10, 9),
        (Reason.CONCURRENCY, 1, 1),
        (Reason.SOFT_CAP, 5, 15),
        (Reason.HARD_CAP, 20, 15),
    ]
    spend = await admission_store.spend(installed_root, SESSION_EPOCH, [shadow])
    assert isinstance(spend, Spend)
    assert (only(spend).held_nanousd, spend.calls[0].calls) == (30, 2)
    assert (spend.windows[0].requests, spend.windows[0].tokens) == (2, 18)


async def test_shadow_hides_neither_a_suspension_nor_the_largest_amount(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    shadow = Level("org", "acme", periods=(month(1),), shadow=True)
    suspended = replace(shadow, suspended=True)
    refused = await admission_store.admit(request(installed_root, suspended))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.SUSPENDED
    await admission_store.admit(request(installed_root, shadow, hold_nanousd=MAX_CAP))
    past = await admission_store.admit(request(installed_root, shadow, hold_nanousd=1))
    assert isinstance(past, Refused)
    assert (past.reason, past.limit) == (Reason.HARD_CAP, MAX_CAP)


async def test_shadow_of_one_level_weakens_no_other(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    shadow = Level("org", "acme", periods=(month(1),), shadow=True)
    refused = await admission_store.admit(request(installed_root, shadow, USER, hold_nanousd=71))
    assert isinstance(refused, Refused)
    assert refused.level_kind == "user"
