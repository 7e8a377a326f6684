"""Between kopf and the pure decisions: ask the registry, decide, write the status where it changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kopf

from tenantplane.core.apis.conditions import ConditionType
from tenantplane.core.registry import RegistryClient
from tenantplane.operator.clients.events import Event, EventWriter
from tenantplane.operator.clients.status import StatusWriter
from tenantplane.operator.reconcile.conditions import Wanted, merged, transitions
from tenantplane.operator.reconcile.tenants import Verdict
from tenantplane.operator.settings import OperatorSettings

# "true" takes an object over from another writer, such as the CLI.
TAKE_OVER_ANNOTATION = "tenantplane.io/take-over"
# Drift is repaired within 30 s even where no watch event told of it.
RESYNC_SECONDS = 20.0


@dataclass(slots=True)
class Reconciler:
    """What handlers need; lives in kopf's memo."""

    settings: OperatorSettings
    registry: RegistryClient
    status: StatusWriter
    events: EventWriter
    turns: asyncio.Semaphore
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def report(self, body: kopf.Body, kind: str, plural: str, verdict: Verdict) -> None:
        """The status and an event for what is new; no write at all where nothing changed."""
        seen = dict(body.status)
        existing = list(seen.get("conditions", ()))
        generation = int(body.metadata.get("generation") or 0)
        wanted: dict[str, Any] = {
            **seen,  # what this verdict does not speak of stays
            **verdict.fields,
            "observedGeneration": generation,
            "conditions": merged(existing, verdict.conditions, generation, self.clock()),
        }
        if wanted == seen:
            return
        name, uid = str(body.metadata["name"]), str(body.metadata["uid"])
        await self.status.apply(kind, plural, name, uid, wanted)
        for change in transitions(existing, verdict.conditions):
            if change.type is ConditionType.READY:  # what the others say stands in its message
                await self.events.write(body, _event(change), self.clock())


def _event(change: Wanted) -> Event:
    return Event(
        "Warning" if change.status == "False" else "Normal",
        str(change.reason),
        f"{change.type}={change.status}: {change.message}",
    )


def writer_of(body: kopf.Body) -> str:
    return f"kubernetes:{body.metadata['uid']}"


def takes_over(body: kopf.Body) -> bool:
    return body.metadata.annotations.get(TAKE_OVER_ANNOTATION) == "true"


def retry_delay(retry: int) -> float:
    """1, 2, 4 … 30 seconds: quick while a plan of the same `kubectl apply` is on its way."""
    return float(min(30, 2 ** min(retry, 5)))
