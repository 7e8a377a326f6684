"""Money at admission: hard caps count open holds, soft caps stop new work, all levels or none."""

import asyncio
import time
from dataclasses import replace

import pytest

from tenantplane.core.errors import InvalidInput
from tenantplane.core.money import MAX_CAP
from tenantplane.core.valkey import encoding
from tenantplane.core.valkey.answers import Admitted, Placing, Reason, Refused, Spend, Stale
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tenantplane.core.valkey.requests import AdmitRequest, Level, Period, Stage
from tests.fixtures.valkey import SESSION_EPOCH
from tests.integration.core.valkey.builders import (
    END,
    START,
    month,
    only,
    org,
    request,
    says_in_its_log,
)


async def held(store: AdmissionStore, root: str, level: Level) -> int:
    return only(await store.spend(root, SESSION_EPOCH, [level])).held_nanousd


async def test_500_concurrent_admits_with_budget_for_one_admit_exactly_one(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    answers = await asyncio.gather(
        *(
            admission_store.admit(request(installed_root, org(150), hold_nanousd=100))
            for _ in range(500)
        )
    )
    assert sum(isinstance(answer, Admitted) for answer in answers) == 1
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refusals) == 499
    assert {(r.reason, r.limit, r.used) for r in refusals} == {(Reason.HARD_CAP, 150, 100)}
    assert await held(admission_store, installed_root, org(150)) == 100


async def test_a_hold_that_meets_the_cap_exactly_is_admitted_and_one_nano_more_is_not(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = org(100)
    assert isinstance(
        await admission_store.admit(request(installed_root, level, hold_nanousd=100)), Admitted
    )
    refused = await admission_store.admit(request(installed_root, level, hold_nanousd=1))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.level_kind, refused.level_id) == (
        Reason.HARD_CAP,
        "org",
        "acme",
    )
    assert refused.period == "month"
    assert refused.retry_after_ms is not None
    assert 0 < refused.retry_after_ms <= (END - START) * 1000


async def test_settled_spend_counts_against_the_hard_cap(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    first = request(installed_root, org(100), hold_nanousd=100)
    await admission_store.admit(first)
    await admission_store.settle(installed_root, SESSION_EPOCH, first.hold_id, Stage.ACTUAL, 60)
    refused = await admission_store.admit(request(installed_root, org(100), hold_nanousd=41))
    assert isinstance(refused, Refused)
    assert refused.used == 60
    admitted = await admission_store.admit(request(installed_root, org(100), hold_nanousd=40))
    assert isinstance(admitted, Admitted)


async def test_a_soft_cap_stops_new_work_and_lets_running_work_go_on(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = org(hard=100, soft=50)
    await admission_store.admit(request(installed_root, level, hold_nanousd=50))
    refused = await admission_store.admit(request(installed_root, level, hold_nanousd=1))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.limit, refused.used) == (Reason.SOFT_CAP, 50, 50)
    running = request(installed_root, level, hold_nanousd=50, continues=True)
    assert isinstance(await admission_store.admit(running), Admitted)
    past_hard = request(installed_root, level, hold_nanousd=1, continues=True)
    refused = await admission_store.admit(past_hard)
    assert isinstance(refused, Refused)
    assert refused.reason == Reason.HARD_CAP


async def test_a_refusal_at_the_leaf_leaves_nothing_at_the_levels_above(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    umbrella = Level("umbrella", "u", requests_per_window=10, periods=(month(1000),))
    user = Level("user", "auth0|a:b", periods=(month(10),))
    refused = await admission_store.admit(
        request(installed_root, umbrella, org(500), user, hold_nanousd=11)
    )
    assert isinstance(refused, Refused)
    assert (refused.level_kind, refused.level_id, refused.limit) == ("user", "auth0|a:b", 10)
    spend = await admission_store.spend(installed_root, SESSION_EPOCH, [umbrella, org(500), user])
    assert isinstance(spend, Spend)
    assert {account.held_nanousd for account in spend.periods} == {0}
    admitted = await admission_store.admit(request(installed_root, umbrella, hold_nanousd=1))
    assert isinstance(admitted, Admitted)
    assert admitted.windows[0].requests == 1


async def test_soft_caps_of_all_levels_come_before_hard_caps(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    user = Level("user", "u", periods=(month(soft=0),))
    refused = await admission_store.admit(
        request(installed_root, org(hard=0), user, hold_nanousd=1)
    )
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.level_kind) == (Reason.SOFT_CAP, "user")


async def test_the_same_hold_again_counts_nothing_twice(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = replace(org(100), requests_per_window=1)
    again = request(installed_root, level, hold_nanousd=60)
    first = await admission_store.admit(again)
    second = await admission_store.admit(again)
    assert isinstance(first, Admitted)
    assert isinstance(second, Admitted)
    assert replace(second, windows=()) == replace(first, placing=Placing.SAME, windows=())
    assert second.windows[0].requests == 1
    assert await held(admission_store, installed_root, level) == 60


async def test_a_larger_amount_enlarges_the_hold_within_the_cap_only(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = replace(org(hard=100, soft=10), requests_per_window=1)
    hold = request(installed_root, level, hold_nanousd=60)
    await admission_store.admit(hold)
    enlarged = await admission_store.admit(replace(hold, hold_nanousd=100))
    assert isinstance(enlarged, Admitted)
    assert (enlarged.placing, enlarged.held_nanousd) == (Placing.ENLARGED, 100)
    assert enlarged.windows[0].requests == 1
    refused = await admission_store.admit(replace(hold, hold_nanousd=101))
    assert isinstance(refused, Refused)
    assert refused.reason == Reason.HARD_CAP
    smaller = await admission_store.admit(replace(hold, hold_nanousd=5))
    assert isinstance(smaller, Admitted)
    assert (smaller.placing, smaller.held_nanousd) == (Placing.SAME, 100)
    assert await held(admission_store, installed_root, level) == 100


async def test_an_enlarged_hold_stays_on_the_period_that_it_was_put_on(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    hold = request(installed_root, org(100), hold_nanousd=60)
    await admission_store.admit(hold)
    next_month = Level("org", "acme", periods=(Period("month", "later", START, END, None, 100),))
    enlarged = await admission_store.admit(replace(hold, hold_nanousd=70, levels=(next_month,)))
    assert isinstance(enlarged, Admitted)
    assert await held(admission_store, installed_root, org()) == 70
    assert await held(admission_store, installed_root, next_month) == 0


async def test_enlarging_without_a_level_of_the_hold_is_refused(
    admission_store: AdmissionStore, installed_root: str, caplog: pytest.LogCaptureFixture
) -> None:
    user = Level("user", "u", periods=(month(),))
    hold = request(installed_root, org(), user, hold_nanousd=60)
    await admission_store.admit(hold)
    with says_in_its_log(caplog, "which the request does not name"):
        await admission_store.admit(replace(hold, hold_nanousd=70, levels=(org(),)))


async def test_a_hold_id_that_was_settled_cannot_be_held_again(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    hold = request(installed_root, org(), hold_nanousd=60)
    await admission_store.admit(hold)
    await admission_store.settle(installed_root, SESSION_EPOCH, hold.hold_id, Stage.ACTUAL, 10)
    refused = await admission_store.admit(hold)
    assert isinstance(refused, Refused)
    assert refused.reason == Reason.SETTLED
    assert await held(admission_store, installed_root, org()) == 0


async def test_amounts_are_exact_at_nine_million_dollars(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    level = org(MAX_CAP)
    hold = request(installed_root, level, hold_nanousd=MAX_CAP - 1)
    assert isinstance(await admission_store.admit(hold), Admitted)
    assert await held(admission_store, installed_root, level) == MAX_CAP - 1
    refused = await admission_store.admit(request(installed_root, level, hold_nanousd=2))
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.used) == (MAX_CAP, MAX_CAP - 1)
    one_more = request(installed_root, level, hold_nanousd=1)
    assert isinstance(await admission_store.admit(one_more), Admitted)
    await admission_store.settle(
        installed_root, SESSION_EPOCH, hold.hold_id, Stage.ACTUAL, 8_123_456_789_012_345
    )
    account = only(await admission_store.spend(installed_root, SESSION_EPOCH, [level]))
    assert (account.settled_nanousd, account.held_nanousd) == (8_123_456_789_012_345, 1)


async def test_without_any_cap_sums_still_stay_below_the_largest_amount(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    await admission_store.admit(request(installed_root, org(), hold_nanousd=MAX_CAP))
    refused = await admission_store.admit(request(installed_root, org(), hold_nanousd=1))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.limit) == (Reason.HARD_CAP, MAX_CAP)


async def test_the_server_chooses_the_period_by_its_own_time(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    past = Period("month", "past", START - 100, START, None, 0)
    coming = Period("month", "coming", END, END + 100, None, 0)
    day = month(500, name="day")
    level = Level("org", "acme", periods=(past, month(100), coming, day))
    assert isinstance(
        await admission_store.admit(request(installed_root, level, hold_nanousd=100)), Admitted
    )
    spend = await admission_store.spend(installed_root, SESSION_EPOCH, [level])
    assert isinstance(spend, Spend)
    assert [(a.period, a.period_id, a.held_nanousd) for a in spend.periods] == [
        ("month", "current", 100),
        ("day", "current", 100),
    ]


async def test_a_level_that_the_server_knows_by_heart_moves_on_to_its_next_period(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    border = int(time.time()) + 4
    old, new = Period("day", "old", START, border, None, 3), Period("day", "new", border, END)
    level = Level("org", "acme", periods=(old, new))
    for _ in range(3):
        one = request(installed_root, level, hold_nanousd=1)
        assert isinstance(await admission_store.admit(one), Admitted)
    answer = await admission_store.admit(request(installed_root, level, hold_nanousd=1))
    assert isinstance(answer, Refused), "the old period's cap holds until its end"
    while isinstance(answer, Refused) and time.time() < border + 10:
        assert answer.reason is Reason.HARD_CAP
        answer = await admission_store.admit(request(installed_root, level, hold_nanousd=1))
    assert isinstance(answer, Admitted)
    assert time.time() >= border
    account = only(await admission_store.spend(installed_root, SESSION_EPOCH, [level]))
    assert (account.period_id, account.held_nanousd) == ("new", 1)


async def test_periods_that_miss_the_servers_time_are_our_error_and_never_free(
    admission_store: AdmissionStore, installed_root: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A clock that is off is no fault of the caller, who is told to try again."""
    past = Period("month", "past", START - 100, START, None, 10)
    level = Level("org", "acme", periods=(past, month(name="day")))
    with says_in_its_log(caplog, 'levels[0]: no period "month" covers'):
        await admission_store.admit(request(installed_root, level, hold_nanousd=1))
    both = Level("org", "acme", periods=(month(), replace(month(), id="other")))
    with says_in_its_log(caplog, 'two periods "month"'):
        await admission_store.admit(request(installed_root, both, hold_nanousd=1))


async def test_a_level_that_is_there_twice_is_an_error(
    admission_store: AdmissionStore, installed_root: str, caplog: pytest.LogCaptureFixture
) -> None:
    with says_in_its_log(caplog, "levels[1] is there twice"):
        await admission_store.admit(request(installed_root, org(), org(), hold_nanousd=1))


async def test_a_suspended_level_refuses_before_anything_else(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    umbrella = Level("umbrella", "u", suspended=True)
    refused = await admission_store.admit(
        request(installed_root, umbrella, org(hard=0), hold_nanousd=1)
    )
    assert refused == Refused(Reason.SUSPENDED, "umbrella", "u", 0, 0, None)


async def test_an_older_snapshot_is_stale_also_after_a_refusal(
    admission_store: AdmissionStore, installed_root: str
) -> None:
    suspended = replace(org(), suspended=True)
    await admission_store.admit(request(installed_root, suspended, snapshot_version=9))
    assert await admission_store.admit(request(installed_root, org(), snapshot_version=8)) == Stale(
        9
    )
    other = request(installed_root, org(name="child"), org_id="child", snapshot_version=1)
    assert isinstance(await admission_store.admit(other), Admitted)
    newer = request(installed_root, org(), snapshot_version=10)
    assert isinstance(await admission_store.admit(newer), Admitted)


@pytest.mark.parametrize(
    "amount",
    ["-1", "-0", "1.5", "nan", "inf", "1e3", "0x10", " 1", "", "9000000000000001", "9" * 30],
)
async def test_the_library_itself_refuses_what_is_no_amount(
    admission_store: AdmissionStore, installed_root: str, amount: str
) -> None:
    """Past the client's own checks: another client's bug must not be free either."""
    good = request(installed_root, org(), hold_nanousd=424_242)
    text = encoding.admit_argument(good)
    changed = text.replace("\n424242\n", f"\n{amount}\n")
    assert changed != text
    with pytest.raises(InvalidInput, match="hold amount must be a whole number"):
        await admit_text(admission_store, good, changed)
    assert await held(admission_store, installed_root, org()) == 0


async def test_amounts_of_the_request_are_the_callers_and_other_arguments_are_ours(
    admission_store: AdmissionStore, installed_root: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = request(installed_root, org(), tokens=424_242, ttl_seconds=4343)
    text = encoding.admit_argument(good)
    tokens = text.replace("\n424242\n", "\n-7\n")
    with pytest.raises(InvalidInput, match="tokens must be a whole number"):
        await admit_text(admission_store, good, tokens)
    ttl = text.replace("\n4343\n", "\n-7\n")
    with says_in_its_log(caplog, "ttl must be a whole number"):
        await admit_text(admission_store, good, ttl)


async def test_a_stale_answer_is_announced_and_no_other(
    valkey_server: EmbeddedValkey, admission_store: AdmissionStore, installed_root: str
) -> None:
    heard: list[str] = []
    watched = AdmissionStore(valkey_server.settings, on_stale=lambda: heard.append("stale"))
    try:
        await watched.open()
        assert isinstance(
            await watched.admit(request(installed_root, org(), snapshot_version=9)), Admitted
        )
        assert heard == []
        answer = await watched.admit(request(installed_root, org(), snapshot_version=8))
        assert answer == Stale(9)
        assert heard == ["stale"]
    finally:
        await watched.close()


async def admit_text(store: AdmissionStore, request: AdmitRequest, text: str) -> None:
    """The request with another argument than its own."""
    root, epoch = request.root_org_id, request.epoch
    await store._shared("tp_admit", root, epoch, request.hold_id, text)
