"""The sweeper ends what a dead process left behind. Several at once are harmless.

intent past its deadline, no outcome → outcome `estimated` of the whole hold, record
                                       `interrupted`, settled
expired hold, outcome there          → settled with that outcome
expired hold, no intent              → released: no call was made
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tenantplane.core.db.jobs import system_job
from tenantplane.core.errors import DependencyUnavailable, TenantplaneError
from tenantplane.core.ids import new_id, time_of
from tenantplane.core.valkey.requests import Stage
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.closing import Call, Ending
from tenantplane.dataplane.ledger.epoch import wait_for_older_transactions
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.ledger.statements import statement

_log = logging.getLogger(__name__)

SWEEP = system_job("ledger.sweep", "finds calls of all orgs that a dead process left open")

BATCH = 200
_BEFORE_ALL: dict[str, Any] = {
    "after_deadline": datetime.min.replace(tzinfo=UTC),
    "after_org": "",
    "after_intent": UUID(int=0),
}


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did."""

    estimated: int = 0
    settled: int = 0
    released: int = 0


class Sweeper:
    """`roots` says which root orgs this plane serves now; `now` is the database's time. `require`
    raises DependencyUnavailable while calls must stay as they are: what a restored database thinks
    open may have ended, and be known to the control plane."""

    def __init__(
        self,
        meter: Meter,
        roots: Callable[[], Collection[str]],
        *,
        now: Callable[[], datetime] | None = None,
        batch: int = BATCH,
        require: Callable[[], None] | None = None,
    ) -> None:
        self._meter = meter
        self._batch = batch
        self._times = meter.times
        self._roots = roots
        self._now = now or meter.database.clock.now
        self._require = require

    async def run(self, interval_seconds: float) -> None:
        """Sweeps for ever; what a dependency interrupts is swept next time."""
        while True:
            try:
                swept = await self.sweep()
                if swept != Swept():
                    _log.info("swept: %s", swept)
            except DependencyUnavailable as gone:
                _log.warning("sweep interrupted: %s", gone.detail)
            await asyncio.sleep(interval_seconds)

    async def sweep(self) -> Swept:
        """One pass. Raises DependencyUnavailable; what was done stays done."""
        if self._require is not None:
            self._require()
        estimated = await self._estimate_overdue()
        settled = released = 0
        for root in sorted(self._roots()):
            ended = await self._end_expired_holds(root)
            settled, released = settled + ended[0], released + ended[1]
        return Swept(estimated, settled, released)

    async def _estimate_overdue(self) -> int:
        """All that are overdue, each once: those of an org whose key is revoked are met again at
        every sweep, and must not keep the others from their turn."""
        before = self._now() - self._times.grace
        estimated, last = 0, _BEFORE_ALL
        while True:
            async with self._meter.database.system_tx(SWEEP) as cursor:
                await cursor.execute(
                    statement("overdue_intents"), {"before": before, "limit": self._batch, **last}
                )
                overdue = await cursor.fetchall()
            for row in overdue:
                estimated += await self._estimated(row)
            if len(overdue) < self._batch:
                return estimated
            last = {
                "after_deadline": overdue[-1]["deadline_at"],
                "after_org": overdue[-1]["org_id"],
                "after_intent": overdue[-1]["intent_id"],
            }

    async def _estimated(self, row: dict[str, Any]) -> bool:
        try:
            await self._estimate(row)
        except TenantplaneError as failed:
            # An org whose key is revoked must not stop the others; its hold goes on counting.
            _log.warning("call %s stays open: %s", row["intent_id"], failed.detail)
            return False
        except Exception as failed:  # noqa: BLE001 (one org's content must not stop the others)
            # The type alone: a message may quote the content.
            _log.error("call %s cannot be ended: %s", row["intent_id"], type(failed).__name__)
            return False
        return True

    async def _estimate(self, row: dict[str, Any]) -> None:
        call = Call(
            org_id=row["org_id"],
            intent_id=row["intent_id"],
            root_org_id=row["root_org_id"],
            user_id=row["user_id"],
            run_id=row["run_id"],
            call_no=row["call_no"],
            thread_id=row["thread_id"],
            kind=row["kind"],
            resource=row["resource"],
        )
        request = await self._meter.closer.decrypt_request(call, bytes(row["request_ciphertext"]))
        ending = Ending(
            event_id=new_id(),
            record_id=new_id(),
            status="interrupted",
            usage=Usage(0, 0, row["hold_nanousd"], estimated=True),
            request=request,
            response=None,
        )
        await self._meter.closer.close(call, ending)

    async def _end_expired_holds(self, root: str) -> tuple[int, int]:
        """How many were settled, and how many released.

        All that are expired, each once, in pages: those of calls that are still open, or may still
        be committed, stay where they are, the oldest first, and must not keep the others from
        their turn. So each page begins anew and reaches past what stayed of those before it.
        """
        settled = released = 0
        seen: set[str] = set()
        limit = self._batch
        while True:
            page = [hold.hold_id for hold in await self._meter.store.expired(root, limit)]
            ended = await self._end_holds(root, [UUID(h) for h in page if h not in seen])
            settled, released = settled + ended[0], released + ended[1]
            if len(page) < limit:
                return settled, released
            seen.update(page)
            limit = self._batch + len(page) - sum(ended)

    async def _end_holds(self, root: str, expired: list[UUID]) -> tuple[int, int]:
        # Until its window has passed, an intent may still be committed for the hold.
        closed_before = self._now() - self._times.commit_window - self._times.clock_margin
        ids = [i for i in expired if time_of(i) < closed_before]
        if not ids:
            return 0, 0
        # A commit that passed the check of its window may be under way: once it is over, what is
        # not there will never be.
        await wait_for_older_transactions(self._meter.database)
        async with self._meter.database.system_tx(SWEEP) as cursor:
            await cursor.execute(statement("read_stages"), {"root": root, "intent_ids": ids})
            intents = {row["intent_id"]: row for row in await cursor.fetchall()}
        settled = released = 0
        for intent_id in ids:
            intent = intents.get(intent_id)
            if intent is None:
                await self._meter.store.release(root, str(intent_id), expired_only=True)
                released += 1
            elif intent["stage"] is not None:
                await self._settle(root, intent)
                settled += 1
        return settled, released

    async def _settle(self, root: str, intent: dict[str, Any]) -> None:
        stage = Stage(intent["stage"])
        await self._meter.store.settle(
            root,
            str(intent["intent_id"]),
            stage,
            intent["cost_nanousd"],
            intent["tokens"] if stage is Stage.ACTUAL else None,
        )
