"""Requests with an Idempotency-Key: claimed before anything is done, ended with their answer.

    claimed ─┬─▶ done          the answer is kept, and given to whoever asks the same again
             ├─▶ interrupted   by its end, or when its lease has run out: its process died
             └─▶ (released)    nothing was done: the key is free again

Postgres alone has them. A claim is never given twice, whatever becomes of whoever has it: the lease
only decides what the others are told. By a group commit of their own, not the intents': answers
must be found before anything is held, and most retries make no call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.ledger.background import Background
from tenantplane.dataplane.ledger.commit import CommitUnknown, GroupCommit
from tenantplane.dataplane.ledger.statements import statement

_CLOSE_SECONDS: Final = 10.0

Advance = Literal["in_flight", "interrupted", "done", "released"]


class ClaimStatus(StrEnum):
    """What `dataplane.claim_requests` answers; its comment says what each means."""

    CLAIMED = "claimed"
    IN_FLIGHT = "in_flight"
    INTERRUPTED = "interrupted"
    DONE = "done"
    NOT_KEPT = "not_kept"
    OTHER_BODY = "other_body"
    FORGED = "forged"


@dataclass(frozen=True, slots=True, order=True)
class RequestKey:
    """What makes two requests the same: whoever differs in one of these, shares nothing."""

    org_id: str
    principal: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class Claim:
    """`fingerprint` is the SHA-256 of what was sent; `run_id` says whose the claim is, and is the
    run of its calls in the ledger."""

    key: RequestKey
    fingerprint: bytes
    run_id: UUID


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """`run_id` is that of whose claim stands."""

    status: ClaimStatus
    run_id: UUID


@dataclass(frozen=True, slots=True)
class _Step:
    claim: Claim
    to: Advance
    response: bytes | None = field(default=None, repr=False)


class RequestJournal:
    """Claims and endings of all orgs. Connections are made when the first key comes."""

    def __init__(self, database: Database, *, lease_seconds: float, keep_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._keep_seconds = keep_seconds
        # Two, so that a claim never waits behind answers of some megabytes.
        self._claims = GroupCommit(database, self._claim, name="request", weigh=lambda _: 1)
        self._steps = GroupCommit(
            database,
            self._advance,
            name="end of a request",
            weigh=lambda step: len(step.response or b"") + 1,
        )
        self._background = Background()

    async def start(self) -> None:
        await self._claims.start()
        await self._steps.start()

    async def stop(self) -> None:
        """Ends what is being stored, within bounds; what is left is interrupted by its lease."""
        await self._background.finish(_CLOSE_SECONDS)
        await self._claims.stop()
        await self._steps.stop()

    async def claim(self, claim: Claim) -> ClaimAnswer:
        """Durable when it returns. Sent again where a lost connection leaves open whether it was
        made: that changes nothing, since it carries its run.

        Raises DependencyUnavailable: nothing may be done.
        """
        try:
            answer = await self._claims.append_again(claim)
        except (CommitUnknown, asyncio.CancelledError):
            # It may be committed, and nothing was done for it. Where this comes too early, or this
            # process dies first, the lease runs out.
            self._background.spawn(self._steps.append_again(_Step(claim, "released")))
            raise
        if answer.status is ClaimStatus.FORGED:
            raise _forged(claim)
        return answer

    async def renew(self, claim: Claim) -> None:
        """Raises DependencyUnavailable."""
        await self._step(_Step(claim, "in_flight"))

    async def keep(self, claim: Claim, response: bytes | None) -> None:
        """The request is done, with its sealed answer; None where that is too large to be kept.

        Goes on to its end when its caller is cancelled, as `interrupt` and `release` do. Raises
        DependencyUnavailable: the claim stands, and its lease runs out.
        """
        await self._step(_Step(claim, "done", response))

    async def interrupt(self, claim: Claim) -> None:
        """The request ended without an answer, after something may have been done."""
        await self._step(_Step(claim, "interrupted"))

    async def release(self, claim: Claim) -> None:
        """Nothing was done: the key is free again."""
        await self._step(_Step(claim, "released"))

    async def response(self, key: RequestKey, run_id: UUID) -> bytes | None:
        """The sealed answer; None where it is gone meanwhile. Raises DependencyUnavailable."""
        async with self._database.tenant_tx(key.org_id) as cursor:
            await cursor.execute(
                statement("read_response"),
                {
                    "org_id": cursor.org_id,
                    "principal": key.principal,
                    "route": key.route,
                    "key": key.key,
                    "run_id": run_id,
                },
            )
            row = await cursor.fetchone()
        return bytes(row["response"]) if row else None

    async def _step(self, step: _Step) -> None:
        answer = await asyncio.shield(self._background.spawn(self._steps.append_again(step)))
        if answer == "forged":
            raise _forged(step.claim)

    async def _claim(
        self, connection: AsyncConnection[DictRow], claims: Sequence[Claim]
    ) -> list[ClaimAnswer]:
        order = _in_order(claims)
        ordered = [claims[at] for at in order]
        parameters = self._keys(ordered) | {
            "fingerprints": [c.fingerprint for c in ordered],
            "keep_seconds": self._keep_seconds,
        }
        cursor = await connection.execute(statement("claim_requests"), parameters)
        answers: list[ClaimAnswer] = [_NO_ANSWER] * len(claims)
        for at, row in zip(order, await cursor.fetchall(), strict=True):
            answers[at] = ClaimAnswer(ClaimStatus(row["status"]), row["run_id"])
        return answers

    async def _advance(
        self, connection: AsyncConnection[DictRow], steps: Sequence[_Step]
    ) -> list[str]:
        order = _in_order([step.claim for step in steps])
        ordered = [steps[at] for at in order]
        parameters = self._keys([step.claim for step in ordered]) | {
            "statuses": [step.to for step in ordered],
            "responses": [step.response for step in ordered],
        }
        cursor = await connection.execute(statement("advance_requests"), parameters)
        answers = [""] * len(steps)
        for at, row in zip(order, await cursor.fetchall(), strict=True):
            answers[at] = row["answer"]
        return answers

    def _keys(self, claims: Sequence[Claim]) -> dict[str, object]:
        return {
            "org_ids": [c.key.org_id for c in claims],
            "proofs": [self._database.proof_for(c.key.org_id) for c in claims],
            "principals": [c.key.principal for c in claims],
            "routes": [c.key.route for c in claims],
            "keys": [c.key.key for c in claims],
            "run_ids": [c.run_id for c in claims],
            "lease_seconds": self._lease_seconds,
        }


_NO_ANSWER: Final = ClaimAnswer(ClaimStatus.FORGED, UUID(int=0))


def _in_order(claims: Sequence[Claim]) -> list[int]:
    """In one order everywhere: two processes that lock the same keys would wait in a circle."""
    return sorted(range(len(claims)), key=lambda at: claims[at].key)


def _forged(claim: Claim) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"Postgres refuses this plane's proof for {claim.key.org_id!r}.",
        hint="Install the context key that the plane's settings name.",
        retry_after_seconds=5,
    )
