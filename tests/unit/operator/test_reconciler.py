"""What is written to the API server, and that nothing is where nothing changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import kopf
from pydantic import SecretStr

from tenantplane.core.apis.conditions import ConditionType, Reason
from tenantplane.core.registry import RegistryClient
from tenantplane.operator.clients.events import Event, EventWriter
from tenantplane.operator.clients.status import StatusWriter
from tenantplane.operator.handlers.reconciler import Reconciler
from tenantplane.operator.reconcile.conditions import Wanted
from tenantplane.operator.reconcile.tenants import Verdict
from tenantplane.operator.settings import OperatorSettings

READY = Wanted(ConditionType.READY, "True", Reason.SERVING, "served")
REGISTERED = Wanted(ConditionType.REGISTERED, "True", Reason.REGISTERED, "registered")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Recorder:
    """Stands for both writers."""

    def __init__(self) -> None:
        self.statuses: list[dict[str, Any]] = []
        self.events: list[Event] = []

    async def apply(
        self, kind: str, plural: str, name: str, uid: str, status: dict[str, Any]
    ) -> None:
        self.statuses.append(status)

    async def write(self, about: Mapping[str, Any], event: Event, now: datetime) -> None:
        self.events.append(event)


def _body(status: dict[str, Any]) -> kopf.Body:
    metadata = {"name": "acme", "uid": "u1", "generation": 1}
    return kopf.Body(cast("Any", {"metadata": metadata, "spec": {}, "status": status}))


async def test_a_status_is_written_once_and_then_left_alone() -> None:
    seen = Recorder()
    settings = OperatorSettings(control_plane_url="http://c", platform_key=SecretStr("k"))
    registry = RegistryClient(settings.control_plane_url, settings.platform_key)
    reconciler = Reconciler(
        settings,
        registry,
        cast("StatusWriter", seen),
        cast("EventWriter", seen),
        asyncio.Semaphore(1),
        lambda: NOW,
    )
    verdict = Verdict((REGISTERED, READY), {"plane": "shared-1"})
    await reconciler.report(_body({}), "Tenant", "tenants", verdict)
    (status,) = seen.statuses
    assert status["plane"] == "shared-1"
    assert [event.reason for event in seen.events] == ["Serving"]  # one event, for Ready alone

    await reconciler.report(_body(status), "Tenant", "tenants", verdict)
    assert len(seen.statuses) == len(seen.events) == 1
    await registry.close()
