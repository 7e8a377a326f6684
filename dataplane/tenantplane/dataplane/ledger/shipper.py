"""The shipper: usage events and audit commitments on their way to the control plane.

Rows are read in the order of their transactions, below the oldest one that still runs: there no row
can appear any more, so that a long transaction loses nothing (a sequence as cursor would). The
cursor moves after the acknowledgement; what is sent twice, the control plane knows by its id.

A batch is taken whole or not at all. Where the control plane refuses it for one of its rows, halves
are sent, down to that row, which is set aside in `dataplane.shipping_refused`: it would be refused
for ever, and everything behind it with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from tenantplane.core.apis.events import BatchAck
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import Conflict, DependencyUnavailable, Forbidden
from tenantplane.dataplane.ledger.statements import statement

_log = logging.getLogger(__name__)
_security = logging.getLogger("tenantplane.security")

SHIP = system_job(
    "ledger.ship", "sends usage and audit commitments of all orgs to the control plane"
)

BATCH = 500
Stream = Literal["usage", "audit"]

# What is said of a row, and is said again however often it is sent. Any other refusal is of the
# sender, of the moment, or not the control plane's: then all rows wait.
_REFUSED_FOR_A_ROW: Final = {
    (Forbidden.status, "org_not_on_plane"),
    (Conflict.status, "event_changed"),
    (Conflict.status, "record_changed"),
}
_MOST_COUNTED: Final = 1000


# What is sent, by the names of UsageEvent's or AuditCommitment's fields. Whoever receives it checks
# it: to do so here as well took 7 µs of CPU a call.
Fields = Mapping[str, Any]


class Uplink(Protocol):
    """How batches reach the control plane, each whole or not at all.

    Raises DependencyUnavailable where it is away, Forbidden and Conflict with the code that it
    gives where it refuses the batch.
    """

    async def send_usage(self, events: Sequence[Fields]) -> BatchAck: ...

    async def send_audit(self, commitments: Sequence[Fields]) -> BatchAck: ...


_Send = Callable[[Sequence[Fields]], Awaitable[BatchAck]]


class _Row(NamedTuple):
    """`xid` says with its id where it stands in its stream."""

    xid: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class Shipped:
    """How many rows were acknowledged, and how many of both streams were set aside."""

    usage: int = 0
    audit: int = 0
    set_aside: int = 0


class Shipper:
    def __init__(self, database: Database, uplink: Uplink, *, batch: int = BATCH) -> None:
        self._database = database
        self._uplink = uplink
        self._batch = batch
        # Of all replicas and starts, as of the last pass; not more than 1001 are counted.
        self.refused_rows = 0

    async def run(self, interval_seconds: float) -> None:
        """Ships for ever; where the control plane is away, what is there waits."""
        while True:
            try:
                await self.ship()
            except DependencyUnavailable as gone:
                _log.warning("nothing shipped: %s", gone.detail)
            await asyncio.sleep(interval_seconds)

    async def ship(self) -> Shipped:
        """Sends all that is there now. Raises DependencyUnavailable, and other refusals that are
        not of a row; rows that were acknowledged or set aside are done."""
        await self._count_refused()
        usage, usage_aside = await self._ship_all("usage", self._uplink.send_usage)
        audit, audit_aside = await self._ship_all("audit", self._uplink.send_audit)
        if usage_aside or audit_aside:
            await self._count_refused()
        return Shipped(usage, audit, usage_aside + audit_aside)

    def note(self) -> str | None:
        """What readiness shows, to anybody: no names."""
        if not self.refused_rows:
            return None
        more = "more than " if self.refused_rows > _MOST_COUNTED else ""
        count = min(self.refused_rows, _MOST_COUNTED)
        rows = "row" if count == 1 else "rows"
        return f"{more}{count} {rows} refused by the control plane: see the security log"

    async def _ship_all(self, stream: Stream, send: _Send) -> tuple[int, int]:
        """How many rows were acknowledged, and how many set aside."""
        shipped = aside = 0
        while rows := await self._read(stream):
            acknowledged = await self._ship_rows(stream, rows, send)
            shipped, aside = shipped + acknowledged, aside + len(rows) - acknowledged
            if len(rows) < self._batch:
                break
        return shipped, aside

    async def _ship_rows(self, stream: Stream, rows: Sequence[_Row], send: _Send) -> int:
        """How many were acknowledged; the others are set aside. In order, so that the cursor stands
        behind all that is done wherever this ends."""
        try:
            ack = await send([row.fields for row in rows])
        except (Forbidden, Conflict) as refused:
            if (refused.status, refused.error_code) not in _REFUSED_FOR_A_ROW:
                raise
            if len(rows) == 1:
                await self._set_aside(stream, rows[0], refused.error_code)
                return 0
            half = len(rows) // 2
            acknowledged = await self._ship_rows(stream, rows[:half], send)
            return acknowledged + await self._ship_rows(stream, rows[half:], send)
        if ack.accepted + ack.duplicate != len(rows):
            raise DependencyUnavailable(
                f"The control plane acknowledged {ack.accepted} + {ack.duplicate} of "
                f"{len(rows)} rows of {stream}.",
                retry_after_seconds=5,
            )
        await self._advance(stream, rows[-1])
        return len(rows)

    async def _set_aside(self, stream: Stream, row: _Row, reason: str) -> None:
        place, org_id = _place(stream, row), row.fields["org_id"]
        # One transaction: a cursor that passes a row which is not kept aside would lose it.
        async with self._database.system_tx(SHIP) as cursor:
            await cursor.execute(
                statement("set_row_aside"), {**place, "org_id": org_id, "reason": reason}
            )
            new = cursor.rowcount == 1
            await cursor.execute(statement("advance_cursor"), place)
        if new:
            _security.error(
                "%s row %s of org %s is refused by the control plane (%s) and set aside",
                stream,
                place["id"],
                org_id,
                reason,
            )

    async def _count_refused(self) -> None:
        async with self._database.system_tx(SHIP) as cursor:
            await cursor.execute(statement("count_refused"), {"limit": _MOST_COUNTED + 1})
            row = await cursor.fetchone()
        assert row is not None
        self.refused_rows = row["refused"]

    async def _read(self, stream: Stream) -> list[_Row]:
        async with self._database.system_tx(SHIP) as cursor:
            await cursor.execute(statement("read_cursor"), {"stream": stream})
            position = await cursor.fetchone()
            if position is None:
                raise DependencyUnavailable(f"The shipper has no cursor for {stream}.")
            query = "read_usage" if stream == "usage" else "read_commitments"
            await cursor.execute(statement(query), {**position, "limit": self._batch})
            return [_Row(row.pop("xid"), row) for row in await cursor.fetchall()]

    async def _advance(self, stream: Stream, last: _Row) -> None:
        async with self._database.system_tx(SHIP) as cursor:
            await cursor.execute(statement("advance_cursor"), _place(stream, last))


def _place(stream: Stream, row: _Row) -> dict[str, object]:
    identifier = row.fields["event_id" if stream == "usage" else "record_id"]
    return {"stream": stream, "xid": row.xid, "id": identifier}
