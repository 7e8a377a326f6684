"""Levels and periods of a snapshot, and the errors that refusals become."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.apis.snapshot import CapRaise, LevelLimits, RunBounds, Snapshot
from tenantplane.core.ids import new_id, time_of
from tenantplane.core.money import MAX_CAP
from tenantplane.core.tenancy import TenantContext
from tenantplane.core.valkey.answers import WindowUse
from tenantplane.core.valkey.requests import Level
from tenantplane.dataplane.gate.admission import caller_levels, enforced, placed_slots, plan_levels
from tests.fixtures.ledger import a_snapshot

ZONES = ["UTC", "Europe/Zurich", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"]
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
times = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC)
)


def level_of(now: datetime, **limits: Any) -> Level:
    (level,) = plan_levels(a_snapshot("acme", **limits), None, None, now)
    return level


@given(now=times, zone=st.sampled_from(ZONES), skew=st.integers(-7200, 7200))
def test_one_period_of_each_name_covers_any_clock_within_two_hours(
    now: datetime, zone: str, skew: int
) -> None:
    at = (now + timedelta(seconds=skew)).timestamp()
    level = level_of(now, time_zone=zone)
    covering = [p.name for p in level.periods if p.start_unix <= at < p.end_unix]
    assert sorted(covering) == ["day", "month"]


@given(now=times, zone=st.sampled_from(ZONES))
def test_no_more_than_the_two_neighbours_of_a_boundary_are_named(now: datetime, zone: str) -> None:
    level = level_of(now, time_zone=zone)
    for name in ("day", "month"):
        periods = [p for p in level.periods if p.name == name]
        assert 1 <= len(periods) <= 2
        assert all(a.end_unix == b.start_unix for a, b in itertools.pairwise(periods))


def test_a_month_begins_at_midnight_of_its_own_zone() -> None:
    level = level_of(datetime(2026, 3, 10, tzinfo=UTC), time_zone="Europe/Zurich")
    month = next(p for p in level.periods if p.id == "2026-03")
    assert datetime.fromtimestamp(month.start_unix, UTC) == datetime(2026, 2, 28, 23, tzinfo=UTC)
    # Summer time began on the 29th: April's midnight is an hour earlier in UTC.
    assert datetime.fromtimestamp(month.end_unix, UTC) == datetime(2026, 3, 31, 22, tzinfo=UTC)


def test_months_and_days_have_caps_of_their_own() -> None:
    level = level_of(NOON, soft_cap_nanousd=900, hard_cap_nanousd=1000, day_hard_cap_nanousd=70)
    caps = {(p.name, p.soft_cap_nanousd, p.hard_cap_nanousd) for p in level.periods}
    assert caps == {("day", None, 70), ("month", 900, 1000)}


def test_an_unknown_time_zone_is_named() -> None:
    with pytest.raises(ValueError, match="'Mars/Olympus' is not a time zone"):
        level_of(datetime(2026, 3, 10, tzinfo=UTC), time_zone="Mars/Olympus")


@pytest.mark.parametrize("status", ["suspended", "deleted"])
def test_an_org_that_is_not_active_is_suspended(status: str) -> None:
    now = datetime(2026, 3, 10, tzinfo=UTC)
    (level,) = plan_levels(a_snapshot("acme", status=status), None, None, now)
    assert level.suspended


def test_a_call_that_is_no_new_request_is_not_counted_as_one() -> None:
    snapshot = a_snapshot("acme", requests_per_minute=5, tokens_per_minute=70)
    now = datetime(2026, 3, 10, tzinfo=UTC)
    (level,) = plan_levels(snapshot, None, None, now, count_request=False)
    assert (level.requests_per_window, level.tokens_per_window) == (None, 70)


def test_a_hold_stands_on_the_periods_of_the_stores_time() -> None:
    now = datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
    levels = plan_levels(a_snapshot("acme"), None, None, now)
    just_after = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)
    assert [s.period_id for s in placed_slots(levels, just_after - 1)] == ["2026-02-28", "2026-02"]
    assert [s.period_id for s in placed_slots(levels, just_after)] == ["2026-03-01", "2026-03"]


@given(asked=st.lists(times, min_size=2, max_size=5))
def test_accounts_of_levels_that_were_asked_for_before_are_those_of_the_time(
    asked: list[datetime],
) -> None:
    levels = plan_levels(a_snapshot("acme"), None, None, asked[0])
    for at in asked:
        at_ms = int(at.timestamp() * 1000)
        assert [(s.period, s.period_id) for s in placed_slots(levels, at_ms)] == [
            (p.name, p.id)
            for level in levels
            for p in level.periods
            if p.start_unix * 1000 <= at_ms < p.end_unix * 1000
        ]


minutes = st.integers(-180, 180).map(lambda n: NOON + timedelta(minutes=n))


@given(
    asked=st.lists(st.tuples(minutes, st.sampled_from("uv"), st.booleans()), max_size=12),
    spans=st.lists(st.lists(minutes, min_size=2, max_size=2, unique=True).map(sorted), max_size=3),
)
def test_levels_that_were_planned_before_are_those_of_the_moment(
    asked: list[tuple[datetime, str, bool]], spans: list[list[datetime]]
) -> None:
    raises = tuple(
        a_raise("month", 10 + number, *span).model_copy(update={"raise_id": str(number)})
        for number, span in enumerate(spans)
    )
    own = a_snapshot("acme", hard_cap_nanousd=500, raises=raises).levels
    snapshot = limited(levels=own, per_user=LevelLimits(requests_per_minute=5))
    for now, user, count in asked:
        caller = TenantContext("acme", "acme", f"user:{user}", user, "pro", "r")
        known = plan_levels(snapshot, caller, None, now, count_request=count)
        anew = plan_levels(snapshot.model_copy(), caller, None, now, count_request=count)
        assert known == anew


def a_raise(period: str, extra: int, begins: datetime, ends: datetime) -> CapRaise:
    return CapRaise.model_validate(
        {
            "raise_id": f"{period}-{extra}",
            "period": period,
            "extra_nanousd": extra,
            "begins_at": begins,
            "ends_at": ends,
        }
    )


@pytest.mark.parametrize(
    ("minutes", "caps"),
    [(-1, (900, 1000)), (0, (930, 1030)), (59, (930, 1030)), (60, (900, 1000))],
)
def test_a_raise_lifts_both_caps_from_its_beginning_to_its_end(
    minutes: int, caps: tuple[int, int]
) -> None:
    raised = a_raise("month", 30, NOON, NOON + timedelta(hours=1))
    now = NOON + timedelta(minutes=minutes)
    level = level_of(now, soft_cap_nanousd=900, hard_cap_nanousd=1000, raises=(raised,))
    months = [p for p in level.periods if p.name == "month"]
    assert [(p.soft_cap_nanousd, p.hard_cap_nanousd) for p in months] == [caps]


def test_raises_add_up_within_their_period_and_never_past_the_largest_cap() -> None:
    until = NOON + timedelta(days=1)
    raises = (
        a_raise("day", 5, NOON, until),
        a_raise("day", 7, NOON, until),
        a_raise("month", MAX_CAP, NOON, until),
    )
    level = level_of(NOON, day_hard_cap_nanousd=100, hard_cap_nanousd=1000, raises=raises)
    assert {(p.name, p.hard_cap_nanousd) for p in level.periods} == {
        ("day", 112),
        ("month", MAX_CAP),
    }
    assert {p.soft_cap_nanousd for p in level.periods} == {None}


def test_a_top_up_that_ends_with_its_month_adds_nothing_to_the_next() -> None:
    """Whichever month the store's clock chooses."""
    end = datetime(2026, 4, 1, tzinfo=UTC)
    top_up = a_raise("month", 50, end - timedelta(days=5), end)
    level = level_of(end - timedelta(minutes=5), hard_cap_nanousd=1000, raises=(top_up,))
    caps = {p.id: p.hard_cap_nanousd for p in level.periods if p.name == "month"}
    assert caps == {"2026-03": 1050, "2026-04": 1000}


USER = TenantContext("acme", "acme", "user:u", "auth0|17", "pro", "r")
MACHINE = TenantContext("acme", "acme", "key:k1", "robot", "pro", "r", key_id="k1")
THE_PLANE = TenantContext("acme", "acme", "system:re-embedding", "system", "pro", "r")


def limited(**limits: Any) -> Snapshot:
    return a_snapshot("acme").model_copy(update=limits)


def refs(snapshot: Snapshot, tenant: TenantContext, run: bool = False) -> list[tuple[str, str]]:
    run_id = new_id() if run else None
    levels = plan_levels(snapshot, tenant, run_id, NOON)
    return [(level.kind, level.id) for level in levels]


def test_users_and_keys_have_levels_of_their_own_where_something_limits_them() -> None:
    snapshot = limited(
        per_user=LevelLimits(requests_per_minute=5), per_key=LevelLimits(hard_cap_nanousd=7)
    )
    assert refs(snapshot, USER) == [("org", "acme"), ("user", "acme/auth0|17")]
    assert refs(snapshot, MACHINE) == [("org", "acme"), ("user", "acme/robot"), ("key", "acme/k1")]
    assert refs(snapshot, THE_PLANE, run=True) == [("org", "acme")]
    assert refs(limited(per_user=LevelLimits(shadow=True)), USER) == [("org", "acme")]
    assert [level[:2] for level in caller_levels(snapshot, MACHINE)] == refs(snapshot, MACHINE)


def test_the_same_user_of_two_orgs_is_two() -> None:
    snapshot = limited(per_user=LevelLimits(requests_per_minute=5))
    theirs = TenantContext("globex", "acme", "user:u", "auth0|17", "pro", "r")
    assert refs(snapshot, USER)[-1] != refs(snapshot, theirs)[-1]


@pytest.mark.parametrize("name", ["a\nb", "x" * 401, "", "sha256:00"])
def test_a_user_that_the_store_would_not_take_has_a_level_all_the_same(name: str) -> None:
    odd = TenantContext("acme", "acme", "user:u", name, "pro", "r")
    ((_, level_id),) = refs(limited(per_user=LevelLimits(requests_per_minute=5)), odd)[1:]
    assert level_id.startswith("acme/sha256:")
    assert len(level_id) == len("acme/sha256:") + 64


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        ({"requests_per_minute": 5}, []),
        ({"hard_cap_nanousd": 5}, ["month"]),
        ({"day_soft_cap_nanousd": 5}, ["day"]),
        ({"day_hard_cap_nanousd": 5, "soft_cap_nanousd": 5}, ["day", "month"]),
        ({"concurrent_calls": 5}, ["day"]),
        ({"concurrent_calls": 5, "hard_cap_nanousd": 5}, ["month"]),
    ],
    ids=str,
)
def test_a_users_accounts_are_those_that_have_a_cap(
    limits: dict[str, int], names: list[str]
) -> None:
    snapshot = limited(per_user=LevelLimits(**limits))
    level = plan_levels(snapshot, USER, None, NOON)[-1]
    assert [p.name for p in level.periods] == names
    assert level.concurrent_calls == limits.get("concurrent_calls")


def test_a_users_days_are_cut_in_the_time_zone_of_its_org() -> None:
    snapshot = a_snapshot("acme", time_zone="Asia/Kathmandu").model_copy(
        update={"per_user": LevelLimits(day_hard_cap_nanousd=5)}
    )
    org, user = plan_levels(snapshot, USER, None, NOON)
    days = [(p.id, p.start_unix) for p in org.periods if p.name == "day"]
    assert [(p.id, p.start_unix) for p in user.periods] == days


@pytest.mark.parametrize(
    ("seconds", "longest"), [(None, timedelta(days=7)), (600, timedelta(seconds=600))]
)
def test_a_run_has_one_account_for_as_long_as_it_may_last(
    seconds: int | None, longest: timedelta
) -> None:
    snapshot = limited(per_run=RunBounds(cost_nanousd=77, seconds=seconds))
    run_id = new_id()
    began = time_of(run_id)
    placed = []
    for later in (timedelta(0), longest / 2, longest):
        level = plan_levels(snapshot, USER, run_id, began + later)[-1]
        assert (level.kind, level.id) == ("run", str(run_id))
        assert [p.hard_cap_nanousd for p in level.periods] == [77]
        placed.append(placed_slots((level,), int((began + later).timestamp() * 1000)))
    assert len(set(placed)) == 1
    assert refs(limited(per_run=RunBounds(steps=5)), USER, run=True) == [("org", "acme")]


def test_shadow_and_calls_at_a_time_are_passed_on() -> None:
    level = level_of(NOON, shadow=True, concurrent_calls=3)
    assert (level.shadow, level.concurrent_calls) == (True, 3)


def test_callers_are_told_of_levels_that_refuse_alone() -> None:
    snapshot = limited(per_user=LevelLimits(requests_per_minute=5, shadow=True))
    levels = plan_levels(snapshot, USER, None, NOON)
    uses = (WindowUse("org", "acme", 1, 1), WindowUse("user", "acme/auth0|17", 1, 1))
    assert enforced(uses, levels) == uses[:1]
    assert enforced(uses, levels[:1]) == uses
