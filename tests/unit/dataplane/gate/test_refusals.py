"""Known refusals: never longer than the store's, never under another limit, never for other wants."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.apis.snapshot import LevelLimits, Snapshot
from tenantplane.core.errors import RateLimited
from tenantplane.core.tenancy import TenantContext
from tenantplane.core.valkey.answers import Reason, Refused, WindowUse
from tenantplane.dataplane.gate.refusals import LONGEST_SECONDS, KnownRefusals
from tests.fixtures.ledger import a_snapshot, a_tenant

TENANT = a_tenant("acme")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def full(
    org_id: str = "acme",
    *,
    limit: int = 60,
    retry_after_ms: int | None = 30_000,
    reason: Reason = Reason.REQUESTS,
) -> Refused:
    return Refused(reason, "org", org_id, limit, limit, retry_after_ms)


def refused_for(
    refusals: KnownRefusals, snapshot: Snapshot, tenant: TenantContext = TENANT
) -> RateLimited | None:
    try:
        refusals.require_room(snapshot, tenant)
    except RateLimited as refused:
        return refused
    return None


def test_a_full_window_refuses_at_once_with_the_time_that_is_left() -> None:
    clock = Clock()
    refusals = KnownRefusals(clock)
    refusals.remember(full(retry_after_ms=1500), asked_at=clock())
    clock.seconds += 1.0
    refused = refused_for(refusals, a_snapshot("acme", requests_per_minute=60))
    assert refused is not None
    assert refused.status == 429
    assert refused.retry_after_seconds == pytest.approx(0.5, abs=0.002)
    assert refused.extra["level"] == "org 'acme'"


@given(
    retry_after_ms=st.integers(1, 62_000),
    answer_seconds=st.floats(0, 10),
    later_seconds=st.floats(0, 70),
)
def test_it_never_outlives_the_stores_refusal_nor_a_bucket_of_the_window(
    retry_after_ms: int, answer_seconds: float, later_seconds: float
) -> None:
    """The store spoke somewhere between the question and its answer: the earliest moment counts."""
    clock = Clock()
    refusals = KnownRefusals(clock)
    asked_at = refusals.now()
    clock.seconds += answer_seconds
    refusals.remember(full(retry_after_ms=retry_after_ms), asked_at=asked_at)
    clock.seconds += later_seconds
    ends = min(asked_at + retry_after_ms / 1000, asked_at + LONGEST_SECONDS)
    may_refuse = clock.seconds < ends
    refused = refused_for(refusals, a_snapshot("acme", requests_per_minute=60))
    assert (refused is not None) == may_refuse


@pytest.mark.parametrize("limit", [61, 1000, 59, None])
def test_another_limit_is_asked_for_anew(limit: int | None) -> None:
    clock = Clock()
    refusals = KnownRefusals(clock)
    refusals.remember(full(limit=60), asked_at=clock())
    assert refused_for(refusals, a_snapshot("acme", requests_per_minute=limit)) is None
    assert refused_for(refusals, a_snapshot("acme", requests_per_minute=60)) is not None


def test_another_org_is_not_refused() -> None:
    clock = Clock()
    refusals = KnownRefusals(clock)
    refusals.remember(full("acme"), asked_at=clock())
    assert refused_for(refusals, a_snapshot("globex", requests_per_minute=60)) is None


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.REQUESTS}))
def test_what_depends_on_the_request_or_may_fall_is_not_remembered(reason: Reason) -> None:
    clock = Clock()
    refusals = KnownRefusals(clock)
    refusals.remember(full(reason=reason), asked_at=clock())
    assert len(refusals) == 0


def test_a_limit_that_no_waiting_helps_is_not_remembered() -> None:
    clock = Clock()
    refusals = KnownRefusals(clock)
    refusals.remember(full(retry_after_ms=None), asked_at=clock())
    assert len(refusals) == 0


def test_memory_is_bounded_and_the_oldest_is_asked_for_again() -> None:
    clock = Clock()
    refusals = KnownRefusals(clock, capacity=2)
    for org_id in ("first", "second", "third"):
        refusals.remember(full(org_id), asked_at=clock())
    assert len(refusals) == 2
    assert refused_for(refusals, a_snapshot("first", requests_per_minute=60)) is None
    assert refused_for(refusals, a_snapshot("third", requests_per_minute=60)) is not None


def test_another_user_of_the_org_is_not_refused_for_one_that_is_full() -> None:
    clock = Clock()
    refusals = KnownRefusals(clock)
    snapshot = a_snapshot("acme").model_copy(
        update={"per_user": LevelLimits(requests_per_minute=5)}
    )
    full_user = Refused(Reason.REQUESTS, "user", "acme/user-1", 5, 5, 30_000)
    refusals.remember(full_user, asked_at=clock())
    assert refused_for(refusals, snapshot) is not None
    assert refused_for(refusals, snapshot, replace(TENANT, user_id="user-2")) is None


def test_a_level_that_went_into_shadow_refuses_nothing() -> None:
    clock = Clock()
    refusals = KnownRefusals(clock)
    refusals.remember(full(), asked_at=clock())
    shadowed = a_snapshot("acme", requests_per_minute=60, shadow=True)
    assert refused_for(refusals, shadowed) is None


def test_what_one_user_has_left_is_told_to_no_other() -> None:
    clock = Clock()
    refusals = KnownRefusals(clock)
    windows = (WindowUse("user", "acme/other", 1, 77, tokens_limit=100),)
    refusals.remember(replace(full(), windows=windows), asked_at=clock())
    refused = refused_for(refusals, a_snapshot("acme", requests_per_minute=60))
    assert refused is not None
    assert refused.headers()["ratelimit-policy"] == '"org-requests";q=60;w=60'
