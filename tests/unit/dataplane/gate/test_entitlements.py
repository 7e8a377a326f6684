"""Versions and sequences only rise, and time that the control plane was silent counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tenantplane.core.apis.snapshot import ApiKeyGrant, Beacon, Level, Snapshot
from tenantplane.core.errors import DependencyUnavailable, NotFound, OfflineTooLong, Suspended
from tenantplane.dataplane.gate.entitlements import Entitlements, HeardBeacon

START = datetime(2026, 2, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time


def snapshot(version: int = 1, org: str = "acme", **changed: object) -> Snapshot:
    fields: dict[str, object] = {
        "org_id": org,
        "root_org_id": org,
        "version": version,
        "issued_at": START,
        "status": "active",
        "plane": "p1",
        "region": "local",
        "plan": "starter",
        "token_epoch": 0,
        "max_offline_seconds": 900,
        "price_book_version": 1,
        "levels": (Level(kind="org", id=org),),
    }
    return Snapshot.model_validate(fields | changed)


def grant(hashed: str) -> ApiKeyGrant:
    return ApiKeyGrant(key_id=hashed, sha256_hex=hashed, user_id="u")


def heard(sequence: int, issued_at: datetime, received_at: datetime) -> HeardBeacon:
    beacon = Beacon(plane="p1", sequence=sequence, issued_at=issued_at, orgs=0, versions_sha256="")
    return HeardBeacon(beacon, received_at)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def entitlements(clock: Clock) -> Entitlements:
    made = Entitlements(clock.now)
    made.hear(heard(1, START, START))
    return made


def test_before_the_first_beacon_nothing_is_known_and_nothing_refused_for_good() -> None:
    with pytest.raises(DependencyUnavailable):
        Entitlements(lambda: START).current("acme")


def test_versions_only_rise(entitlements: Entitlements) -> None:
    assert entitlements.install(snapshot(2))
    assert not entitlements.install(snapshot(2, plan="same"))
    assert not entitlements.install(snapshot(1, plan="older"))
    assert entitlements.current("acme").plan == "starter"


def test_a_key_that_a_newer_snapshot_lacks_is_gone(entitlements: Entitlements) -> None:
    entitlements.install(snapshot(1, api_keys=(grant("k1"), grant("k2"))))
    entitlements.install(snapshot(2, api_keys=(grant("k2"),)))
    assert entitlements.key_owner("k1") is None
    owner = entitlements.key_owner("k2")
    assert owner is not None
    assert owner[0] == "acme"


def test_a_hash_that_two_orgs_claim_stays_the_first_ones(entitlements: Entitlements) -> None:
    entitlements.install(snapshot(1, api_keys=(grant("k1"),)))
    entitlements.install(snapshot(1, "evil", api_keys=(grant("k1"),)))
    entitlements.install(snapshot(2, "evil"))
    owner = entitlements.key_owner("k1")
    assert owner is not None
    assert owner[0] == "acme"


def test_suspension_of_the_org_or_above_it(entitlements: Entitlements) -> None:
    entitlements.install(snapshot(1, status="suspended"))
    with pytest.raises(Suspended):
        entitlements.current("acme")
    levels = (Level(kind="org", id="root", suspended=True), Level(kind="org", id="child"))
    entitlements.install(snapshot(1, "child", levels=levels))
    with pytest.raises(Suspended, match="root"):
        entitlements.current("child")


def test_deleted_and_unknown_are_the_same(entitlements: Entitlements) -> None:
    entitlements.install(snapshot(1, status="deleted"))
    for org in ("acme", "nobody"):
        with pytest.raises(NotFound):
            entitlements.current(org)


@pytest.mark.parametrize(("age_seconds", "serves"), [(900, True), (900.001, False)])
def test_the_offline_time_is_the_orgs_own(
    entitlements: Entitlements, clock: Clock, age_seconds: float, serves: bool
) -> None:
    entitlements.install(snapshot(1))
    entitlements.install(snapshot(1, "patient", max_offline_seconds=3600))
    clock.time = START + timedelta(seconds=age_seconds)
    assert entitlements.current("patient")
    if serves:
        assert entitlements.current("acme")
    else:
        with pytest.raises(OfflineTooLong):
            entitlements.current("acme")


def test_a_beacon_from_the_future_does_not_lengthen_the_offline_time(
    entitlements: Entitlements, clock: Clock
) -> None:
    entitlements.install(snapshot(1))
    assert entitlements.hear(heard(2, START + timedelta(days=9), START))
    clock.time = START + timedelta(seconds=901)
    with pytest.raises(OfflineTooLong):
        entitlements.current("acme")


def test_an_old_beacon_is_not_heard(entitlements: Entitlements, clock: Clock) -> None:
    later = START + timedelta(seconds=800)
    assert not entitlements.hear(heard(1, later, later))
    assert entitlements.beacon_age_seconds() == 0
