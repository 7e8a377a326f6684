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
from tenantplane.core.audit.content import NOTHING, Content, content_of
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
_SEALED_ON_THE_LOOP = 64 * 1024


@dataclass(frozen=True, slots=True)
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
        object.__setattr__(self, "hold_id", str(self.intent_id))


@dataclass(frozen=True, slots=True)
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
        answer = await self._journal.conclude(await self._outcome(call, ending))
        if held_nanousd is not None and answer.cost_nanousd > held_nanousd:
            # Before the answer goes out: the notification comes a moment later.
            self._excesses.note(call.org_id, self._clock.now())
        if answer.status in (OutcomeStatus.OK, OutcomeStatus.DUPLICATE):
            await self._settle(call, ending)
        elif answer.status is not OutcomeStatus.FINAL:  # whoever wrote the final one settles it
            raise _refused(call, answer)
        return Receipt(answer.record_id, answer.event_id, answer.cost_nanousd)

    async def encrypt_request(self, call: Call, request: Content) -> bytes:
        """Raises DependencyUnavailable (keys)."""
        key = await self._keys.of(call.org_id)
        return key.encrypt(request, _request_bound(call))

    async def decrypt_request(self, call: Call, ciphertext: bytes) -> Content:
        """Raises DependencyUnavailable (keys), Forbidden (`ciphertext_refused`)."""
        key = await self._keys.of(call.org_id)
        return Content(key.decrypt(ciphertext, _request_bound(call)))

    async def _outcome(self, call: Call, ending: Ending) -> OutcomeRow:
        occurred_at = ending.occurred_at or self._clock.now()
        key = await self._keys.of(call.org_id)
        if _weighs_more_than(_SEALED_ON_THE_LOOP - len(ending.request), ending.response):
            sealed = await asyncio.to_thread(_sealed, call, ending, occurred_at, key)
        else:
            sealed = _sealed(call, ending, occurred_at, key)
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

    async def _settle(self, call: Call, ending: Ending) -> None:
        usage = ending.usage
        try:
            await self._store.settle(
                call.root_org_id,
                call.hold_id,
                Stage(ending.stage),
                usage.cost_nanousd,
                # A mere estimate knows no tokens: what was estimated at admission stands.
                usage.input_tokens + usage.output_tokens if ending.stage == "actual" else None,
            )
        except DependencyUnavailable as gone:
            # Postgres has it: the sweeper, or the next install, brings it to Valkey. Until then the
            # hold counts, which is never too little.
            _log.warning("call %s is not settled in Valkey yet: %s", call.intent_id, gone.detail)


async def written(value: JsonValue) -> Content:
    """As canonical JSON; what is large is written beside the loop."""
    if _weighs_more_than(_SEALED_ON_THE_LOOP, value):
        return await asyncio.to_thread(content_of, value)
    return content_of(value)


def _sealed(call: Call, ending: Ending, occurred_at: datetime, key: DataKey) -> SealedRecord:
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
        response=content_of(ending.response),
    )
    return seal(record, key)


def _weighs_more_than(limit: int, content: JsonValue) -> bool:
    """About so many bytes of JSON; looks no further than it must."""
    weight, parts = 0, [content]
    for part in parts:  # which grow meanwhile
        if isinstance(part, str):
            weight += len(part)
        elif isinstance(part, list | dict):
            weight += 8 * len(part)
            parts += part.values() if isinstance(part, dict) else part
        if weight > limit:
            return True
    return weight > limit


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
