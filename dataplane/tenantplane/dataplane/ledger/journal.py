"""The journal: intents before calls, outcomes after them, each by a group commit of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from tenantplane.core.db.pool import Database
from tenantplane.dataplane.ledger.commit import GroupCommit
from tenantplane.dataplane.ledger.rows import (
    IntentRow,
    IntentStatus,
    OutcomeAnswer,
    OutcomeRow,
    OutcomeStatus,
    slots_to_json,
)
from tenantplane.dataplane.ledger.statements import statement


class Journal:
    """Appends rows of all orgs. Two connections, so that outcomes never wait behind intents."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._intents = GroupCommit(
            database,
            self._append_intents,
            name="intent",
            weigh=lambda row: len(row.request_ciphertext),
        )
        self._outcomes = GroupCommit(
            database, self._append_outcomes, name="outcome", weigh=lambda row: len(row.ciphertext)
        )

    async def start(self) -> None:
        await self._intents.start()
        await self._outcomes.start()

    async def stop(self) -> None:
        await self._intents.stop()
        await self._outcomes.stop()

    def intend(self, row: IntentRow) -> asyncio.Future[IntentStatus]:
        """Await it shielded: whether the row committed matters also to a caller who gives up.

        Raises, or fails with, CommitUnknown and DependencyUnavailable (surely not committed).
        """
        return self._intents.enqueue(row)

    async def conclude(self, row: OutcomeRow) -> OutcomeAnswer:
        """Durable when it returns: it is appended again, by its event id, where a lost connection
        left that open. Worth waiting for: without it, a call that was made counts as its worst case.

        Raises DependencyUnavailable after some seconds; the sweeper then estimates the call.
        """
        return await self._outcomes.append_again(row)

    async def _append_intents(
        self, connection: AsyncConnection[DictRow], rows: Sequence[IntentRow]
    ) -> list[IntentStatus]:
        cursor = await connection.execute(
            statement("append_intents"),
            {
                "org_ids": [r.org_id for r in rows],
                "proofs": [self._database.proof_for(r.org_id) for r in rows],
                "intent_ids": [r.intent_id for r in rows],
                "root_org_ids": [r.root_org_id for r in rows],
                "run_ids": [r.run_id for r in rows],
                "call_nos": [r.call_no for r in rows],
                "thread_ids": [r.thread_id for r in rows],
                "user_ids": [r.user_id for r in rows],
                "key_ids": [r.key_id for r in rows],
                "kinds": [r.kind for r in rows],
                "resources": [r.resource for r in rows],
                "holds": [r.hold_nanousd for r in rows],
                "price_books": [r.price_book_version for r in rows],
                "idempotency_keys": [r.idempotency_key for r in rows],
                "epochs": [r.epoch for r in rows],
                "slot_lists": [slots_to_json(r.slots) for r in rows],
                "requests": [r.request_ciphertext for r in rows],
                "commit_bys": [r.commit_by for r in rows],
                "deadlines": [r.deadline_at for r in rows],
            },
        )
        return [IntentStatus(row["status"]) for row in await cursor.fetchall()]

    async def _append_outcomes(
        self, connection: AsyncConnection[DictRow], rows: Sequence[OutcomeRow]
    ) -> list[OutcomeAnswer]:
        # In one order everywhere: two processes that lock the same intents would wait in a circle.
        order = sorted(range(len(rows)), key=lambda at: rows[at].intent_id)
        ordered = [rows[at] for at in order]
        cursor = await connection.execute(
            statement("append_outcomes"),
            {
                "org_ids": [r.org_id for r in ordered],
                "proofs": [self._database.proof_for(r.org_id) for r in ordered],
                "intent_ids": [r.intent_id for r in ordered],
                "stages": [r.stage for r in ordered],
                "event_ids": [r.event_id for r in ordered],
                "record_ids": [r.record_id for r in ordered],
                "input_tokens": [r.input_tokens for r in ordered],
                "output_tokens": [r.output_tokens for r in ordered],
                "costs": [r.cost_nanousd for r in ordered],
                "occurred_ats": [r.occurred_at for r in ordered],
                "ciphertexts": [r.ciphertext for r in ordered],
                "entries": [r.entry for r in ordered],
            },
        )
        answers = [
            OutcomeAnswer(
                OutcomeStatus(row["status"]), row["event_id"], row["record_id"], row["cost_nanousd"]
            )
            for row in await cursor.fetchall()
        ]
        by_row = dict(zip(order, answers, strict=True))
        return [by_row[at] for at in range(len(rows))]
