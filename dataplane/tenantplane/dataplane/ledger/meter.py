"""The meter: no model or tool call without a hold and an intent, no answer without an outcome.

    open      hold in Valkey → intent in Postgres → the call may be made
    complete  outcome and audit record in Postgres → settled in Valkey → the answer may go out

A process may die between any two of these. Before the intent no call was made, and the hold is
released when it has expired. After it the sweeper writes an estimated outcome of the whole hold.
After the outcome the sweeper settles. Nothing is free, and nothing counts twice.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from pydantic import JsonValue

from tenantplane.core.apis.events import Stage
from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.audit.record import Status
from tenantplane.core.db.pool import Database
from tenantplane.core.ids import new_id
from tenantplane.core.keys.envelope import KeyProvider
from tenantplane.core.tenancy import TenantContext
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import AdmitRequest
from tenantplane.dataplane.gate.admission import plan_levels
from tenantplane.dataplane.gate.fair_turns import FairTurns
from tenantplane.dataplane.gate.refusals import KnownRefusals
from tenantplane.dataplane.ledger.background import Background
from tenantplane.dataplane.ledger.call_ids import new_call_id
from tenantplane.dataplane.ledger.calls import CallRequest, LevelSpend, Receipt, Usage
from tenantplane.dataplane.ledger.closing import Call, Closer, Ending
from tenantplane.dataplane.ledger.epoch import FencedStore
from tenantplane.dataplane.ledger.journal import Journal
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.ledger.placement import Placement, Placer
from tenantplane.dataplane.ledger.rows import IntentRow
from tenantplane.dataplane.ledger.times import LedgerTimes

__all__ = ["CallRequest", "LevelSpend", "Meter", "OpenCall", "Receipt", "Usage"]

_CLOSE_SECONDS = 10.0


class Meter:
    """Shared by all requests of a process; database and store must be open."""

    def __init__(
        self,
        database: Database,
        store: AdmissionStore,
        keys: KeyProvider,
        *,
        times: LedgerTimes | None = None,
    ) -> None:
        self.database = database
        self.times = times or LedgerTimes()
        self.store = FencedStore(database, store)
        self.keys = DataKeys(database, keys)
        self.journal = Journal(database)
        self.closer = Closer(database.clock, self.journal, self.store, self.keys)
        # Of the calls that a run makes after its first, which came through the gate's.
        self.turns = FairTurns()
        self.refusals = KnownRefusals()
        self._background = Background()
        self._placer = Placer(
            database,
            self.store,
            self.journal,
            self.closer,
            self._background,
            self.times,
            self.refusals,
        )

    async def start(self) -> None:
        """Starts the two group commits."""
        await self.journal.start()

    async def close(self) -> None:
        """Ends what is being settled, within bounds; what is left is the sweeper's."""
        await self._background.finish(_CLOSE_SECONDS)
        await self.journal.stop()

    async def open(
        self, tenant: TenantContext, snapshot: Snapshot, request: CallRequest
    ) -> OpenCall:
        """Hold, then intent: when this returns, the call may be made.

        A caller that is cancelled meanwhile must not make the call, and pays nothing.
        Raises HardCapReached, SoftCapReached, RateLimited, Suspended, DependencyUnavailable, and
        Conflict where the run made this call number already.
        """
        if tenant.org_id != snapshot.org_id:
            raise ValueError(f"snapshot of {snapshot.org_id!r} for a caller of {tenant.org_id!r}")
        if request.count_request:
            self.refusals.require_room(snapshot)
        placement = await self._prepare(tenant, snapshot, request)
        placing = self._background.spawn(self._placer.place(placement))
        try:
            row = await asyncio.shield(placing)
        except asyncio.CancelledError:
            self._background.spawn(self._withdraw_once_placed(placing, placement.call))
            raise
        return OpenCall(self._placer, self.closer, self._background, placement, row)

    async def spend(self, snapshot: Snapshot) -> list[LevelSpend]:
        """Money of each level and current period, root first. Raises DependencyUnavailable."""
        levels = plan_levels(snapshot, self.database.clock.now())
        spend = await self.store.spend(snapshot.root_org_id, levels)
        return [
            LevelSpend(
                level_kind=p.level_kind,
                level_id=p.level_id,
                period=p.period,
                period_id=p.period_id,
                settled_nanousd=p.settled_nanousd,
                held_nanousd=p.held_nanousd,
                soft_cap_nanousd=p.soft_cap_nanousd,
                hard_cap_nanousd=p.hard_cap_nanousd,
            )
            for p in spend.periods
        ]

    async def _prepare(
        self, tenant: TenantContext, snapshot: Snapshot, request: CallRequest
    ) -> Placement:
        clock = self.database.clock
        call = Call(
            org_id=tenant.org_id,
            intent_id=new_call_id(clock.unix()),
            root_org_id=snapshot.root_org_id,
            user_id=tenant.user_id,
            run_id=request.run_id,
            call_no=request.call_no,
            thread_id=request.thread_id,
            kind=request.kind,
            resource=request.resource,
        )
        admission = AdmitRequest(
            root_org_id=snapshot.root_org_id,
            epoch=0,  # the fenced store puts the one in force
            org_id=tenant.org_id,
            snapshot_version=snapshot.version,
            hold_id=call.hold_id,
            hold_nanousd=request.worst_case_nanousd,
            tokens=request.tokens_estimate,
            ttl_seconds=self.times.hold_ttl_seconds(request.deadline_seconds),
            levels=plan_levels(snapshot, clock.now(), count_request=request.count_request),
            continues=not request.count_request,
        )
        ciphertext = await self.closer.encrypt_request(
            call.org_id, call.intent_id, request.audit_request
        )
        return Placement(call, request, tenant.key_id, snapshot, admission, ciphertext)

    async def _withdraw_once_placed(self, placing: asyncio.Task[IntentRow], call: Call) -> None:
        await asyncio.wait([placing])
        if not placing.cancelled() and placing.exception() is None:
            await self._placer.withdraw(call)


class OpenCall:
    """A call that may be made, and must be closed: complete, fail or abandon.

    Closing again is harmless: the first outcome of a stage stands. Each of the three goes on to
    its end when its caller is cancelled.
    """

    def __init__(
        self,
        placer: Placer,
        closer: Closer,
        background: Background,
        placement: Placement,
        row: IntentRow,
    ) -> None:
        self._placer = placer
        self._closer = closer
        self._background = background
        self._placement = placement
        self._row = row
        self._ids: dict[Stage, tuple[UUID, UUID]] = {}
        # The audit record's id, known before the call: it may stand in the response's headers.
        self.receipt_id = new_id()

    @property
    def intent_id(self) -> UUID:
        return self._row.intent_id

    @property
    def held_nanousd(self) -> int:
        return self._row.hold_nanousd

    async def enlarge(self, worst_case_nanousd: int) -> None:
        """Makes room for a larger worst case; a smaller one changes nothing.

        Raises as `Meter.open`: the smaller hold stands then, and the call must end within it.
        """
        if worst_case_nanousd <= self._row.hold_nanousd:
            return
        self._row = await self._placer.enlarge(self._placement, self._row, worst_case_nanousd)

    async def complete(self, usage: Usage, response: JsonValue) -> Receipt:
        """The call was answered. When this returns the outcome is durable and the answer may end.

        Raises DependencyUnavailable: the answer must not go out, the sweeper estimates the call.
        """
        return await self._close("completed", usage, response)

    async def fail(self, reason: str, usage: Usage) -> Receipt:
        """The call was made and failed: `usage` is what is known, NOTHING_USED only where the
        provider surely charged nothing, else the worst case with `estimated`."""
        return await self._close("failed", usage, {"error": reason})

    async def abandon(self) -> None:
        """The call was made, and what it used is not known: its whole hold counts, as estimated,
        until a report of the provider corrects it."""
        usage = Usage(0, 0, self._row.hold_nanousd, estimated=True)
        await self._close("interrupted", usage, None)

    async def _close(self, status: Status, usage: Usage, response: JsonValue) -> Receipt:
        stage: Stage = "estimated" if usage.estimated else "actual"
        event_id, record_id = self._ids_of(stage)
        ending = Ending(
            event_id=event_id,
            record_id=record_id,
            status=status,
            usage=usage,
            request=self._placement.request.audit_request,
            response=response,
        )
        closing = self._background.spawn(self._closer.close(self._placement.call, ending))
        return await asyncio.shield(closing)

    def _ids_of(self, stage: Stage) -> tuple[UUID, UUID]:
        """The same ones for a repeat; the promised record id for the first stage alone."""
        if stage not in self._ids:
            self._ids[stage] = (new_id(), new_id() if self._ids else self.receipt_id)
        return self._ids[stage]
