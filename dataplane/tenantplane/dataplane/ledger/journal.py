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
    intent_parameters,
    outcome_answers,
    outcome_parameters,
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
        proofs = {row.org_id: self._database.proof_for(row.org_id) for row in rows}
        cursor = await connection.execute(
            statement("append_intents"), intent_parameters(rows, proofs)
        )
        answer = await cursor.fetchone()
        assert answer is not None, "a function answers"
        return [IntentStatus(status) for status in answer["statuses"]]

    async def _append_outcomes(
        self, connection: AsyncConnection[DictRow], rows: Sequence[OutcomeRow]
    ) -> list[OutcomeAnswer]:
        proofs = {row.org_id: self._database.proof_for(row.org_id) for row in rows}
        cursor = await connection.execute(
            statement("append_outcomes"), outcome_parameters(rows, proofs)
        )
        answer = await cursor.fetchone()
        assert answer is not None, "a function answers"
        return outcome_answers(rows, answer["statuses"], answer["standing"])
