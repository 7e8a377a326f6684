"""Placing a call: its hold in Valkey, then its intent in Postgres, both under one epoch."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.audit.content import Content
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import (
    Conflict,
    DependencyUnavailable,
    InvalidInput,
    NotFound,
    TenantplaneError,
)
from tenantplane.core.ids import new_id
from tenantplane.core.money import NanoUSD
from tenantplane.core.tenancy import TenantContext
from tenantplane.core.valkey.answers import Admitted, Refused, Stale
from tenantplane.core.valkey.requests import AdmitRequest
from tenantplane.dataplane.gate.admission import enforced, placed_slots
from tenantplane.dataplane.gate.refusal_errors import refusal_error, stale_error
from tenantplane.dataplane.gate.refusals import KnownRefusals
from tenantplane.dataplane.gate.shadow import ShadowReport
from tenantplane.dataplane.ledger.background import Background
from tenantplane.dataplane.ledger.calls import NOTHING_USED, CallRequest
from tenantplane.dataplane.ledger.closing import Call, Closer, Ending
from tenantplane.dataplane.ledger.commit import CommitUnknown
from tenantplane.dataplane.ledger.epoch import FencedStore, wait_for_older_transactions
from tenantplane.dataplane.ledger.journal import Journal
from tenantplane.dataplane.ledger.rows import IntentRow, IntentStatus
from tenantplane.dataplane.ledger.times import LedgerTimes

_log = logging.getLogger(__name__)

# Each raise of the epoch between a hold and its intent costs one more round.
_MOST_ROUNDS = 5
_WITHDRAWAL_ATTEMPTS = 60
_WITHDRAWAL_PAUSE_SECONDS = 1.0
# A release must not overtake the admission that it ends, on another connection to the store.
_OVERTAKEN_AFTER_SECONDS = 0.1


@dataclass(slots=True)  # frozen, its fields would take thrice the time; nobody changes it
class Placement:
    """All that placing a call needs, again and again if the epoch moves. `opened_at`, on the
    database's clock, is when its id was made."""

    call: Call
    request: CallRequest
    tenant: TenantContext
    snapshot: Snapshot
    admission: AdmitRequest
    content: Content
    request_ciphertext: bytes
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Placed:
    """A call that may be made: its intent, and what the store said of the hold."""

    intent: IntentRow
    admitted: Admitted


class Placer:
    def __init__(
        self,
        database: Database,
        store: FencedStore,
        journal: Journal,
        closer: Closer,
        background: Background,
        times: LedgerTimes,
        refusals: KnownRefusals,
        shadow: ShadowReport,
    ) -> None:
        self._database = database
        self._store = store
        self._journal = journal
        self._closer = closer
        self._background = background
        self._times = times
        self._refusals = refusals
        self._shadow = shadow

    async def place(self, placement: Placement) -> Placed:
        """Returns once the intent is durable: the call may be made.

        Raises what the store refuses, DependencyUnavailable, and Conflict where the run made this
        call number already; no call may be made then, nor by a caller that is cancelled meanwhile,
        and the hold is given back.
        """
        intent: IntentRow | None = None
        try:
            for _ in range(_MOST_ROUNDS):
                intent = None
                admitted, epoch = await self._admit(placement.admission, placement)
                intent = self._intent(placement, admitted, epoch)
                status = await self._journal.intend(intent)
                if status is IntentStatus.OK:
                    return Placed(intent, admitted)
                if status is not IntentStatus.EPOCH:
                    raise _intent_refused(status, placement.call)
                await self._store.refresh()
            raise _epoch_moves()
        except asyncio.CancelledError:
            self._background.spawn(
                self._give_back_later(placement.call)
                if intent is None
                else self._withdraw_once_there(intent, placement.call)
            )
            raise
        except CommitUnknown:
            self._background.spawn(self.withdraw(placement.call, after_barrier=True))
            raise
        except (Conflict, DependencyUnavailable, InvalidInput):
            # The hold may stand, and there surely is no intent of this id. Where giving it back
            # fails too, the sweeper does so once the hold has expired.
            self._background.spawn(self._give_back(placement.call))
            raise

    async def enlarge(self, placement: Placement, intent: IntentRow) -> IntentRow:
        """First the larger hold that `placement.admission` asks for, then the larger intent; raises
        as `place`, and the smaller one stands (in Valkey perhaps the larger: never too little)."""
        deadline = self._deadline(placement.request)
        for _ in range(_MOST_ROUNDS):
            admitted, epoch = await self._admit(placement.admission, placement)
            larger = replace(
                intent,
                hold_nanousd=max(intent.hold_nanousd, NanoUSD(admitted.held_nanousd)),
                deadline_at=deadline,
                epoch=epoch,
            )
            status = await asyncio.shield(self._journal.intend(larger))
            if status is IntentStatus.OK:
                return larger
            if status is not IntentStatus.EPOCH:
                raise _intent_refused(status, placement.call)
            await self._store.refresh()
        raise _epoch_moves()

    async def withdraw(self, call: Call, *, after_barrier: bool = False) -> None:
        """Closes the intent of a call that surely was not made: it costs nothing.

        `after_barrier`: the intent's commit may still be under way on a lost connection. Where
        this process dies first, the sweeper cannot know, and estimates the call at its hold.
        """
        ending = Ending(
            event_id=new_id(),
            record_id=new_id(),
            status="interrupted",
            usage=NOTHING_USED,
            response={"reason": "the call was not made"},
        )
        for attempt in range(_WITHDRAWAL_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_WITHDRAWAL_PAUSE_SECONDS)
            try:
                if after_barrier:
                    await wait_for_older_transactions(self._database)
                await self._closer.close(call, ending)
            except NotFound:  # it was not committed
                await self._give_back(call)
            except DependencyUnavailable:
                continue
            return
        _log.warning("intent %s of a call not made stays open: no Postgres", call.intent_id)

    async def _give_back_later(self, call: Call) -> None:
        """Whether it was admitted is not known, and the request may be on its way still."""
        await asyncio.sleep(_OVERTAKEN_AFTER_SECONDS)
        await self._give_back(call)

    async def _withdraw_once_there(self, intent: IntentRow, call: Call) -> None:
        """Its commit may be under way, or not sent at all. Once it is there by a commit of our own,
        the other one changes nothing, whenever it comes: to shield each commit from the cancellation
        of its caller takes 3 µs of all, this two commits of the few."""
        try:
            is_there = await self._journal.intend(intent) is IntentStatus.OK
        except (DependencyUnavailable, InvalidInput):
            is_there = False
        await self.withdraw(call, after_barrier=not is_there)

    async def _admit(self, admission: AdmitRequest, placement: Placement) -> tuple[Admitted, int]:
        asked_at = self._refusals.now()
        answer, epoch = await self._store.admit(admission)
        match answer:
            case Admitted():
                self._shadow.note(admission.org_id, answer.shadowed)
                return answer, epoch
            case Refused():
                self._refusals.remember(answer, asked_at=asked_at)
                windows = enforced(answer.windows, admission.levels)
                raise refusal_error(replace(answer, windows=windows))
            case Stale():
                raise stale_error(answer, placement.snapshot)

    async def _give_back(self, call: Call) -> None:
        try:
            await self._store.release(call.root_org_id, call.hold_id)
        except DependencyUnavailable as gone:
            _log.info("hold %s is left to the sweeper: %s", call.hold_id, gone.detail)

    def _intent(self, placement: Placement, admitted: Admitted, epoch: int) -> IntentRow:
        call, request = placement.call, placement.request
        # The store's time when it chose the periods, read back from the deadline that it set.
        placed_at_ms = admitted.deadline_unix_ms - placement.admission.ttl_seconds * 1000
        return IntentRow(
            org_id=call.org_id,
            intent_id=call.intent_id,
            root_org_id=call.root_org_id,
            run_id=call.run_id,
            call_no=call.call_no,
            thread_id=call.thread_id,
            user_id=call.user_id,
            key_id=placement.tenant.key_id,
            kind=call.kind,
            resource=call.resource,
            hold_nanousd=NanoUSD(admitted.held_nanousd),
            price_book_version=request.price_book_version,
            idempotency_key=request.idempotency_key,
            epoch=epoch,
            slots=placed_slots(placement.admission.levels, placed_at_ms),
            request_ciphertext=placement.request_ciphertext,
            commit_by=placement.opened_at + self._times.commit_window,
            deadline_at=self._deadline(request),
        )

    def _deadline(self, request: CallRequest) -> datetime:
        return self._database.clock.now() + timedelta(seconds=request.deadline_seconds)


def _intent_refused(status: IntentStatus, call: Call) -> TenantplaneError:
    match status:
        case IntentStatus.DUPLICATE:
            return Conflict(
                f"Call {call.call_no} of run {call.run_id} was made already.",
                hint="Give each call of a run a number of its own.",
            )
        case IntentStatus.CLOSED:
            return Conflict(f"Call {call.call_no} of run {call.run_id} is over.")
        case IntentStatus.LATE:
            return DependencyUnavailable(
                "The call could not be recorded while its hold was sure to stand.",
                hint="Nothing was called; try again.",
                retry_after_seconds=1,
            )
        case _:
            return DependencyUnavailable(
                f"Postgres refuses this plane's proof for {call.org_id!r}.",
                hint="Install the context key that the plane's settings name.",
                retry_after_seconds=5,
            )


def _epoch_moves() -> DependencyUnavailable:
    return DependencyUnavailable(
        "The limits are being rebuilt again and again.",
        hint="Nothing was called; try again.",
        retry_after_seconds=1,
    )
