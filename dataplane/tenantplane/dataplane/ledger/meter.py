"""The meter: no model or tool call without a hold and an intent, no answer without an outcome.

    open      hold in Valkey → intent in Postgres → the call may be made
    complete  outcome and audit record in Postgres → settled in Valkey → the answer may go out

A process may die between any two of these. Before the intent no call was made, and the hold is
released when it has expired. After it the sweeper writes an estimated outcome of the whole hold.
After the outcome the sweeper settles. Nothing is free, and nothing counts twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import JsonValue

from tenantplane.core.apis.events import Stage
from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.audit.content import content_of, light_content_of
from tenantplane.core.audit.record import Status
from tenantplane.core.db.pool import Database
from tenantplane.core.ids import new_id
from tenantplane.core.keys.envelope import KeyProvider
from tenantplane.core.money import NanoUSD
from tenantplane.core.tenancy import TenantContext
from tenantplane.core.valkey.answers import Spend
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import AdmitRequest
from tenantplane.dataplane.gate.admission import enforced, plan_levels
from tenantplane.dataplane.gate.fair_turns import FairTurns
from tenantplane.dataplane.gate.refusals import KnownRefusals
from tenantplane.dataplane.gate.shadow import ShadowReport
from tenantplane.dataplane.ledger.background import Background
from tenantplane.dataplane.ledger.call_ids import new_call_id
from tenantplane.dataplane.ledger.calls import CallRequest, LevelSpend, Receipt, Usage
from tenantplane.dataplane.ledger.closing import (
    WRITTEN_ON_THE_LOOP,
    Call,
    Closer,
    Ending,
    encrypt_request,
)
from tenantplane.dataplane.ledger.epoch import FencedStore
from tenantplane.dataplane.ledger.excess import Excesses
from tenantplane.dataplane.ledger.journal import Journal
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.ledger.placement import Placed, Placement, Placer
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
        self.excesses = Excesses(database)
        self.closer = Closer(database.clock, self.journal, self.store, self.keys, self.excesses)
        self._following: asyncio.Task[None] | None = None
        # Of the calls that a run makes after its first, which came through the gate's.
        self.turns = FairTurns()
        self.refusals = KnownRefusals()
        self.shadow = ShadowReport()
        self.background = Background()
        self._placer = Placer(
            database,
            self.store,
            self.journal,
            self.closer,
            self.background,
            self.times,
            self.refusals,
            self.shadow,
        )

    async def start(self) -> None:
        """Starts the two group commits, and knows whose calls an excess has stopped."""
        await self.excesses.load()
        self._following = asyncio.create_task(self.excesses.follow(), name="excesses")
        await self.journal.start()

    async def close(self) -> None:
        """Ends what is being settled, within bounds; what is left is the sweeper's."""
        await self.background.finish(_CLOSE_SECONDS)
        await self.journal.stop()
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])

    async def open(
        self, tenant: TenantContext, snapshot: Snapshot, request: CallRequest
    ) -> OpenCall:
        """Hold, then intent: when this returns, the call may be made.

        A caller that is cancelled meanwhile must not make the call, and pays nothing.
        Raises HardCapReached, ProviderExcess, SoftCapReached, RateLimited, Suspended,
        DependencyUnavailable, and Conflict where the run made this call number already.
        """
        if tenant.org_id != snapshot.org_id:
            raise ValueError(f"snapshot of {snapshot.org_id!r} for a caller of {tenant.org_id!r}")
        self.excesses.require(snapshot)
        if request.count_request:
            self.refusals.require_room(snapshot, tenant)
        unix = self.database.clock.unix()
        opened_at = datetime.fromtimestamp(unix, UTC)
        call = _call(tenant, snapshot, request, unix)
        admission = self._admission(tenant, snapshot, request, call.hold_id, opened_at)
        content = light_content_of(request.audit_request, WRITTEN_ON_THE_LOOP)
        if content is None:
            content = await asyncio.to_thread(content_of, request.audit_request)
        key = self.keys.known(call.org_id) or await self.keys.of(call.org_id)
        ciphertext = encrypt_request(call, content, key)
        placement = Placement(
            call, request, tenant, snapshot, admission, content, ciphertext, opened_at
        )
        return OpenCall(self, placement, await self._placer.place(placement))

    async def enlarge(
        self, placement: Placement, intent: IntentRow, request: CallRequest, snapshot: Snapshot
    ) -> IntentRow:
        """The intent with the hold that `request` wants now, under the limits of `snapshot`; use
        `OpenCall.enlarge`. Raises as `open`."""
        tenant = placement.tenant
        now = self.database.clock.now()
        admission = self._admission(tenant, snapshot, request, placement.call.hold_id, now)
        admission = replace(admission, continues=True)
        larger = replace(placement, request=request, snapshot=snapshot, admission=admission)
        return await asyncio.shield(self.background.spawn(self._placer.enlarge(larger, intent)))

    async def spend(
        self, snapshot: Snapshot, tenant: TenantContext | None = None
    ) -> list[LevelSpend]:
        """Money of each level and current period, root first, then of the user and the key of
        `tenant`. Raises DependencyUnavailable."""
        spend = await self.use(snapshot, tenant)
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

    async def use(self, snapshot: Snapshot, tenant: TenantContext | None) -> Spend:
        """What the levels of a caller use now: money, rates and calls. Counts nothing.
        Raises DependencyUnavailable."""
        levels = plan_levels(snapshot, tenant, None, self.database.clock.now())
        return await self.store.spend(snapshot.root_org_id, levels)

    def _admission(
        self,
        tenant: TenantContext,
        snapshot: Snapshot,
        request: CallRequest,
        hold_id: str,
        now: datetime,
    ) -> AdmitRequest:
        return AdmitRequest(
            root_org_id=snapshot.root_org_id,
            epoch=self.store.known_epoch,
            org_id=tenant.org_id,
            snapshot_version=snapshot.version,
            hold_id=hold_id,
            hold_nanousd=request.worst_case_nanousd,
            least_nanousd=request.least_nanousd,
            tokens=request.tokens_estimate,
            ttl_seconds=self.times.hold_ttl_seconds(request.deadline_seconds),
            levels=plan_levels(
                snapshot, tenant, request.run_id, now, count_request=request.count_request
            ),
            continues=not request.count_request,
        )


def _call(tenant: TenantContext, snapshot: Snapshot, request: CallRequest, unix: float) -> Call:
    return Call(
        org_id=tenant.org_id,
        intent_id=new_call_id(unix),
        root_org_id=snapshot.root_org_id,
        user_id=tenant.user_id,
        run_id=request.run_id,
        call_no=request.call_no,
        thread_id=request.thread_id,
        kind=request.kind,
        resource=request.resource,
    )


class OpenCall:
    """A call that may be made, and must be closed: complete, fail or abandon.

    Closing again is harmless: the first outcome of a stage stands. Each of the three goes on to
    its end when its caller is cancelled.
    """

    def __init__(self, meter: Meter, placement: Placement, placed: Placed) -> None:
        self._meter = meter
        self._placement = placement
        self._intent = placed.intent
        # What the limits that refuse had left when the call was admitted.
        self.windows = enforced(placed.admitted.windows, placement.admission.levels)
        self._ids: dict[Stage, tuple[UUID, UUID]] = {}
        # The audit record's id, known before the call: it may stand in the response's headers.
        self.receipt_id = new_id()

    @property
    def intent_id(self) -> UUID:
        return self._intent.intent_id

    @property
    def held_nanousd(self) -> NanoUSD:
        return self._intent.hold_nanousd

    async def enlarge(
        self,
        worst_case_nanousd: NanoUSD,
        *,
        least_nanousd: NanoUSD | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Makes room for a larger worst case, or for as much of it as there is, from
        `least_nanousd` on; a smaller one changes nothing. `snapshot` is the one in force, whose
        limits hold for what is added; the call's own where absent. One at a time.

        Raises as `Meter.open`: the smaller hold stands then, and the call must end within it.
        """
        if worst_case_nanousd <= self.held_nanousd:
            return
        placement = self._placement
        request = replace(
            placement.request,
            worst_case_nanousd=worst_case_nanousd,
            least_nanousd=least_nanousd,
        )
        self._intent = await self._meter.enlarge(
            placement, self._intent, request, snapshot or placement.snapshot
        )

    def complete(self, usage: Usage, response: JsonValue) -> Coroutine[Any, Any, Receipt]:
        """The call was answered. When this returns the outcome is durable and the answer may end.

        Raises DependencyUnavailable: the answer must not go out, the sweeper estimates the call.
        """
        return self._close("completed", usage, response)

    def fail(self, reason: str, usage: Usage) -> Coroutine[Any, Any, Receipt]:
        """The call was made and failed: `usage` is what is known, NOTHING_USED only where the
        provider surely charged nothing, else the worst case with `estimated`."""
        return self._close("failed", usage, {"error": reason})

    async def abandon(self) -> None:
        """The call was made, and what it used is not known: its whole hold counts, as estimated,
        until a report of the provider corrects it."""
        usage = Usage(0, 0, self.held_nanousd, estimated=True)
        await self._close("interrupted", usage, None)

    async def _close(self, status: Status, usage: Usage, response: JsonValue) -> Receipt:
        stage: Stage = "estimated" if usage.estimated else "actual"
        event_id, record_id = self._ids_of(stage)
        ending = Ending(
            event_id=event_id,
            record_id=record_id,
            status=status,
            usage=usage,
            request=self._placement.content,
            response=response,
        )
        call, held = self._placement.call, self._intent.hold_nanousd
        meter = self._meter
        try:
            return await meter.closer.close(call, ending, held_nanousd=held)
        except asyncio.CancelledError:
            # Once more from the beginning, which changes nothing of what was done: the ids are the
            # same. A task of its own for each call would cost more than this costs those few.
            meter.background.spawn(meter.closer.close(call, ending, held_nanousd=held))
            raise

    def _ids_of(self, stage: Stage) -> tuple[UUID, UUID]:
        """The same ones for a repeat; the promised record id for the first stage alone."""
        if stage not in self._ids:
            self._ids[stage] = (new_id(), new_id() if self._ids else self.receipt_id)
        return self._ids[stage]
