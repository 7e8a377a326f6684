"""The shipper: usage events and audit commitments on their way to the control plane.

Rows are read in the order of their transactions, below the oldest one that still runs: there no row
can appear any more, so that a long transaction loses nothing (a sequence as cursor would). The
cursor moves after the acknowledgement; what is sent twice, the control plane knows by its id.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID

from tenantplane.core.apis.events import (
    AuditBatch,
    AuditCommitment,
    BatchAck,
    UsageBatch,
    UsageEvent,
)
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.ledger.statements import statement

_log = logging.getLogger(__name__)

SHIP = system_job(
    "ledger.ship", "sends usage and audit commitments of all orgs to the control plane"
)

BATCH = 500
Stream = Literal["usage", "audit"]


class Uplink(Protocol):
    """How batches reach the control plane. Raises DependencyUnavailable where it is away."""

    async def send_usage(self, batch: UsageBatch) -> BatchAck: ...

    async def send_audit(self, batch: AuditBatch) -> BatchAck: ...


@dataclass(frozen=True, slots=True)
class Shipped:
    """How many rows were acknowledged."""

    usage: int = 0
    audit: int = 0


class Shipper:
    def __init__(self, database: Database, uplink: Uplink, *, batch: int = BATCH) -> None:
        self._database = database
        self._uplink = uplink
        self._batch = batch

    async def run(self, interval_seconds: float) -> None:
        """Ships for ever; where the control plane is away, what is there waits."""
        while True:
            try:
                await self.ship()
            except DependencyUnavailable as gone:
                _log.warning("nothing shipped: %s", gone.detail)
            await asyncio.sleep(interval_seconds)

    async def ship(self) -> Shipped:
        """Sends all that is there now. Raises DependencyUnavailable; acknowledged rows are done."""
        return Shipped(
            usage=await self._ship_all("usage", self._send_usage),
            audit=await self._ship_all("audit", self._send_audit),
        )

    async def _ship_all(self, stream: Stream, send: _Send) -> int:
        shipped = 0
        while rows := await self._read(stream):
            ack = await send(rows)
            if ack.accepted + ack.duplicate != len(rows):
                raise DependencyUnavailable(
                    f"The control plane acknowledged {ack.accepted} + {ack.duplicate} of "
                    f"{len(rows)} rows of {stream}.",
                    retry_after_seconds=5,
                )
            await self._advance(stream, rows[-1])
            shipped += len(rows)
            if len(rows) < self._batch:
                break
        return shipped

    async def _read(self, stream: Stream) -> list[dict[str, Any]]:
        async with self._database.system_tx(SHIP) as cursor:
            await cursor.execute(statement("read_cursor"), {"stream": stream})
            position = await cursor.fetchone()
            if position is None:
                raise DependencyUnavailable(f"The shipper has no cursor for {stream}.")
            query = "read_usage" if stream == "usage" else "read_commitments"
            await cursor.execute(statement(query), {**position, "limit": self._batch})
            return await cursor.fetchall()

    async def _advance(self, stream: Stream, last: dict[str, Any]) -> None:
        identifier: UUID = last["event_id"] if stream == "usage" else last["record_id"]
        async with self._database.system_tx(SHIP) as cursor:
            await cursor.execute(
                statement("advance_cursor"),
                {"stream": stream, "xid": last["xid"], "id": identifier},
            )

    async def _send_usage(self, rows: list[dict[str, Any]]) -> BatchAck:
        events = tuple(UsageEvent.model_validate(row) for row in rows)
        return await self._uplink.send_usage(UsageBatch(events=events))

    async def _send_audit(self, rows: list[dict[str, Any]]) -> BatchAck:
        commitments = tuple(AuditCommitment.model_validate(row) for row in rows)
        return await self._uplink.send_audit(AuditBatch(commitments=commitments))


class _Send(Protocol):
    async def __call__(self, rows: list[dict[str, Any]]) -> BatchAck: ...
