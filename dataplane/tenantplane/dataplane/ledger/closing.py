"""How a call ends: its outcome and audit record in one commit, then the settlement of its hold."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pydantic import JsonValue

from tenantplane.core.apis.events import CallKind
from tenantplane.core.apis.events import Stage as EventStage
from tenantplane.core.audit.content import NOTHING, Content, content_of, light_content_of
from tenantplane.core.audit.record import RecordToSeal, SealedRecord, Status, seal
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.errors import DependencyUnavailable, NotFound
from tenantplane.core.keys.envelope import DataKey, associated_data
from tenantplane.core.money import NanoUSD
from tenantplane.core.valkey.requests import Stage
from tenantplane.dataplane.ledger.calls import Receipt, Usage
from tenantplane.dataplane.ledger.epoch import FencedStore
from tenantplane.dataplane.ledger.excess import Excesses
from tenantplane.dataplane.ledger.journal import Journal
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.ledger.rows import OutcomeAnswer, OutcomeRow, OutcomeStatus

_log = logging.getLogger(__name__)

_REQUEST_PURPOSE = "intent_request"
# Writing and sealing a megabyte takes some milliseconds, and a tenth of a second where its canonical
# JSON goes the long way: nobody else's request waits for it. Below this it is some 0.15 ms,
# and a thread would cost about as much as it spares.
WRITTEN_ON_THE_LOOP = 64 * 1024


@dataclass(slots=True)  # frozen, its fields would take thrice the time; nobody changes it
class Call:
    """A call as its intent knows it."""

    org_id: str
    intent_id: UUID
    root_org_id: str
    user_id: str
    run_id: UUID
    call_no: int
    thread_id: str | None
    kind: CallKind
    resource: str
    # The intent's id as text, which a call needs four times and more.
    hold_id: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.hold_id = str(self.intent_id)


@dataclass(slots=True)  # frozen, its fields would take thrice the time; nobody changes it
class Ending:
    """What came of a call. `event_id` makes its commit repeatable; `request` is what its intent
    says, if that is known."""

    event_id: UUID
    record_id: UUID
    status: Status
    usage: Usage
    response: JsonValue
    request: Content = NOTHING
    occurred_at: datetime | None = None  # now, where it is not of the past

    @property
    def stage(self) -> EventStage:
        return "estimated" if self.usage.estimated else "actual"


class Closer:
    """Closes calls, for the process that made them and for the sweeper alike."""

    def __init__(
        self,
        clock: DatabaseClock,
        journal: Journal,
        store: FencedStore,
        keys: DataKeys,
        excesses: Excesses,
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._store = store
        self._keys = keys
        self._excesses = excesses

    async def close(
        self, call: Call, ending: Ending, *, held_nanousd: NanoUSD | None = None
    ) -> Receipt:
        """The receipt of the outcome that stands, once it is durable; settles its hold.

        Where the call cost more than was held for it, the org's next calls wait for a person.
        Raises DependencyUnavailable (not durable: the sweeper will estimate the call), NotFound
        (there is no such intent).
        """
        occurred_at = ending.occurred_at or self._clock.now()
        key = self._keys.known(call.org_id) or await self._keys.of(call.org_id)
        response = light_content_of(ending.response, WRITTEN_ON_THE_LOOP - len(ending.request))
        if response is None:
            sealed = await asyncio.to_thread(_write_and_seal, call, ending, occurred_at, key)
        else:
            sealed = _sealed(call, ending, response, occurred_at, key)
        answer = await self._journal.conclude(_outcome(call, ending, occurred_at, sealed))
        if held_nanousd is not None and answer.cost_nanousd > held_nanousd:
            # Before the answer goes out: the notification comes a moment later.
            self._excesses.note(call.org_id, self._clock.now())
        if answer.status is OutcomeStatus.OK or answer.status is OutcomeStatus.DUPLICATE:
            await self._settle(call, ending.usage)
        elif answer.status is not OutcomeStatus.FINAL:  # whoever wrote the final one settles it
            raise _refused(call, answer)
        return Receipt(answer.record_id, answer.event_id, answer.cost_nanousd)

    async def decrypt_request(self, call: Call, ciphertext: bytes) -> Content:
        """Raises DependencyUnavailable (keys), Forbidden (`ciphertext_refused`)."""
        key = await self._keys.of(call.org_id)
        return Content(key.decrypt(ciphertext, _request_bound(call)))

    async def _settle(self, call: Call, usage: Usage) -> None:
        # A mere estimate knows no tokens: what was estimated at admission stands.
        stage, tokens = (
            (Stage.ESTIMATED, None)
            if usage.estimated
            else (Stage.ACTUAL, usage.input_tokens + usage.output_tokens)
        )
        try:
            await self._store.settle(
                call.root_org_id, call.hold_id, stage, usage.cost_nanousd, tokens
            )
        except DependencyUnavailable as gone:
            # Postgres has it: the sweeper, or the next install, brings it to Valkey. Until then the
            # hold counts, which is never too little.
            _log.warning("call %s is not settled in Valkey yet: %s", call.intent_id, gone.detail)


def encrypt_request(call: Call, request: Content, key: DataKey) -> bytes:
    """Bound to its own call of its own org (F60)."""
    return key.encrypt(request, _request_bound(call))


def _outcome(call: Call, ending: Ending, occurred_at: datetime, sealed: SealedRecord) -> OutcomeRow:
    usage = ending.usage
    return OutcomeRow(
        org_id=call.org_id,
        intent_id=call.intent_id,
        stage=ending.stage,
        event_id=ending.event_id,
        record_id=ending.record_id,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_nanousd=usage.cost_nanousd,
        occurred_at=occurred_at,
        ciphertext=sealed.ciphertext,
        entry=sealed.entry,
    )


def _write_and_seal(
    call: Call, ending: Ending, occurred_at: datetime, key: DataKey
) -> SealedRecord:
    return _sealed(call, ending, content_of(ending.response), occurred_at, key)


def _sealed(
    call: Call, ending: Ending, response: Content, occurred_at: datetime, key: DataKey
) -> SealedRecord:
    record = RecordToSeal(
        record_id=ending.record_id,
        org_id=call.org_id,
        user_id=call.user_id,
        kind=call.kind,
        resource=call.resource,
        occurred_at=occurred_at,
        status=ending.status,
        run_id=call.run_id,
        thread_id=call.thread_id,
        call_no=call.call_no,
        request=ending.request,
        response=response,
    )
    return seal(record, key)


def _request_bound(call: Call) -> bytes:
    return associated_data(_REQUEST_PURPOSE, call.org_id, call.hold_id)


def _refused(call: Call, answer: OutcomeAnswer) -> NotFound | DependencyUnavailable:
    if answer.status is OutcomeStatus.UNKNOWN:
        return NotFound(f"There is no intent {call.intent_id} of {call.org_id!r}.")
    return DependencyUnavailable(
        f"Postgres refuses this plane's proof for {call.org_id!r}.",
        hint="Install the context key that the plane's settings name.",
        retry_after_seconds=5,
    )
