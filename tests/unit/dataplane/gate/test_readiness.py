"""Ready is what requests can do; trouble of background tasks is shown and decides nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tenantplane.core.apis.snapshot import Beacon
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.gate.entitlements import Entitlements, HeardBeacon
from tenantplane.dataplane.gate.readiness import LONGEST_OFFLINE_SECONDS, ReadinessProbe

NOW = datetime(2026, 2, 1, tzinfo=UTC)


class Store:
    down = False
    asked = 0

    async def probe(self) -> None:
        self.asked += 1
        if self.down:
            raise DependencyUnavailable("away")


def entitlements(age_seconds: float | None) -> Entitlements:
    made = Entitlements(lambda: NOW)
    if age_seconds is not None:
        then = NOW - timedelta(seconds=age_seconds)
        beacon = Beacon(plane="p1", sequence=1, issued_at=then, orgs=0, versions_sha256="")
        made.hear(HeardBeacon(beacon, NOW))
    return made


def probe(store: Store, age_seconds: float | None = 0, seconds: float = 0) -> ReadinessProbe:
    return ReadinessProbe(
        {"store": store.probe},
        entitlements(age_seconds),
        lambda: {"task:shipper": "dependency_unavailable"},
        lambda: seconds,
    )


async def test_ready_though_a_background_task_is_in_trouble() -> None:
    readiness = await probe(Store()).check()
    assert readiness.ready
    assert readiness.checks["task:shipper"] == "dependency_unavailable"


async def test_not_ready_without_a_store() -> None:
    store = Store()
    store.down = True
    readiness = await probe(store).check()
    assert (readiness.ready, readiness.checks["store"]) == (False, "dependency_unavailable")


@pytest.mark.parametrize(
    ("age_seconds", "ready"),
    [(None, False), (LONGEST_OFFLINE_SECONDS, True), (LONGEST_OFFLINE_SECONDS + 1, False)],
)
async def test_ready_while_any_org_could_be_served(age_seconds: float | None, ready: bool) -> None:
    assert (await probe(Store(), age_seconds).check()).ready is ready


async def test_a_flood_of_probes_asks_the_stores_once() -> None:
    store = Store()
    asked = probe(store)
    for _ in range(50):
        await asked.check()
    assert store.asked == 1


async def test_not_ready_where_a_probe_fails_as_nobody_expected() -> None:
    async def forged() -> None:
        raise PermissionError("42501 for 'acme'")

    readiness = await ReadinessProbe({"store": forged}, entitlements(0), dict).check()
    assert (readiness.ready, readiness.checks["store"]) == (False, "PermissionError")
