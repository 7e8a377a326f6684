"""The functions that claim requests with an Idempotency-Key and move them on: nothing without a
proof, nothing of another org's row with the same key, and nothing for a run that has no claim."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest

from tenantplane.core.db.pool import Database
from tenantplane.core.ids import new_id
from tenantplane.dataplane.ledger.statements import statement

_LEASE_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Asked:
    """A request of an org, as the functions take it."""

    org_id: str
    proof: str
    principal: str = "key:k1"
    route: str = "/v1/chat/completions"
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    fingerprint: bytes = b"f" * 32
    run_id: UUID = field(default_factory=new_id)

    def by(self, org_id: str, proof: str) -> Asked:
        return replace(self, org_id=org_id, proof=proof)

    def again(self, **changed: Any) -> Asked:
        """By another run."""
        return replace(self, **({"run_id": new_id()} | changed))


async def claim(
    database: Database, asked: Sequence[Asked], *, lease: float = _LEASE_SECONDS, keep: float = 600
) -> list[tuple[str, UUID]]:
    values = _values(asked) | {
        "fingerprints": [a.fingerprint for a in asked],
        "lease_seconds": lease,
        "keep_seconds": keep,
    }
    rows = await _answers(database, "claim_requests", values)
    return [(row["status"], row["run_id"]) for row in rows]


async def advance(
    database: Database,
    asked: Sequence[Asked],
    status: str,
    response: bytes | None = None,
    *,
    lease: float = _LEASE_SECONDS,
) -> list[str]:
    values = _values(asked) | {
        "statuses": [status] * len(asked),
        "responses": [response] * len(asked),
        "lease_seconds": lease,
    }
    return [row["answer"] for row in await _answers(database, "advance_requests", values)]


async def rows_of(database: Database, org_id: str) -> list[dict[str, Any]]:
    async with database.tenant_tx(org_id) as cursor:
        await cursor.execute(
            "SELECT * FROM dataplane.request WHERE org_id = %s ORDER BY idempotency_key", (org_id,)
        )
        return await cursor.fetchall()


async def claims_with_anothers_proof(database: Database, victim: str, intruder: str) -> int:
    """The victim's row fails alone between two of the intruder's, whether it has the key or not,
    and the answer tells neither."""
    theirs, mine = Asked(victim, database.proof_for(victim)), database.proof_for(intruder)
    assert await claim(database, [theirs]) == [("claimed", theirs.run_id)]
    assert await advance(database, [theirs], "done", b"sealed") == ["ok"]
    before = await rows_of(database, victim)
    proofs = (mine, "", theirs.proof[:-1] + ("0" if theirs.proof[-1] != "0" else "1"))
    for proof in proofs:
        for aim in (theirs.again(proof=proof), Asked(victim, proof)):
            good = [Asked(intruder, mine) for _ in range(2)]
            answers = await claim(database, [good[0], aim, good[1]])
            assert [a[0] for a in answers] == ["claimed", "forged", "claimed"]
            assert answers[1][1] == aim.run_id  # what was sent, never what stands
    # The victim's key is free to the intruder under its own name (F22).
    own = theirs.again().by(intruder, mine)
    assert await claim(database, [own]) == [("claimed", own.run_id)]
    assert await rows_of(database, victim) == before
    return 2 * len(proofs) + 1


async def advances_with_anothers_proof(database: Database, victim: str, intruder: str) -> int:
    """The victim's request is neither ended nor released, whatever the intruder knows of it."""
    theirs, mine = Asked(victim, database.proof_for(victim)), database.proof_for(intruder)
    await claim(database, [theirs])
    before = await rows_of(database, victim)
    statuses = ("in_flight", "interrupted", "done", "released")
    for status in statuses:
        good = [Asked(intruder, mine) for _ in range(2)]
        await claim(database, good)
        aim = replace(theirs, proof=mine)
        answers = await advance(database, [good[0], aim, good[1]], status, _answer_of(status))
        assert answers == ["ok", "forged", "ok"]
        named = theirs.by(intruder, mine)
        assert await advance(database, [named], status, _answer_of(status)) == ["gone"]
    assert await rows_of(database, victim) == before
    return 2 * len(statuses)


async def rows_of_the_same_key(database: Database, victim: str, intruder: str) -> int:
    """Two orgs with requests of the very same keys and runs: each moves its own."""
    theirs = Asked(victim, database.proof_for(victim))
    mine = theirs.by(intruder, database.proof_for(intruder))
    assert [a[0] for a in await claim(database, [theirs, mine])] == ["claimed"] * 2
    before = await rows_of(database, victim)
    assert await advance(database, [mine], "done", b"mine") == ["ok"]
    assert await rows_of(database, victim) == before
    assert await claim(database, [mine.again()]) == [("done", mine.run_id)]
    assert await claim(database, [theirs.again()]) == [("in_flight", theirs.run_id)]
    assert await advance(database, [theirs], "released") == ["ok"]
    assert [row["response"] for row in await rows_of(database, intruder)] == [b"mine"]
    return 5


async def keys_of_one_org(database: Database, org_id: str) -> int:
    """Who differs in principal, route or key has a request of its own; a run that has not claimed
    one moves nothing."""
    asked = Asked(org_id, database.proof_for(org_id))
    others = [
        replace(asked, principal="user:u"),
        replace(asked, route="/v1/embeddings"),
        replace(asked, key=asked.key + "x"),
    ]
    assert [a[0] for a in await claim(database, [asked, *others])] == ["claimed"] * 4
    for mine in [asked, *others]:
        before = [row for row in await rows_of(database, org_id) if not _is(row, mine)]
        stranger = mine.again()
        for status in ("in_flight", "interrupted", "done", "released"):
            assert await advance(database, [stranger], status, _answer_of(status)) == ["gone"]
        assert await claim(database, [stranger]) == [("in_flight", mine.run_id)]
        assert await advance(database, [mine], "done", b"sealed") == ["ok"]
        # Done is done: neither the run itself nor its lease changes it.
        for status in ("in_flight", "interrupted", "done", "released"):
            assert await advance(database, [mine], status, _answer_of(status)) == ["gone"]
        assert await claim(database, [stranger], lease=0) == [("done", mine.run_id)]
        left = [row for row in await rows_of(database, org_id) if not _is(row, mine)]
        assert left == before
    return 10 * 4


async def _answers(
    database: Database, name: str, values: dict[str, object]
) -> list[dict[str, Any]]:
    async with database.append_connection() as connection:
        try:
            return await (await connection.execute(statement(name), values)).fetchall()
        except psycopg.Error as failed:
            pytest.fail(f"{name} answered no row: {failed}")


def _values(asked: Sequence[Asked]) -> dict[str, object]:
    return {
        "org_ids": [a.org_id for a in asked],
        "proofs": [a.proof for a in asked],
        "principals": [a.principal for a in asked],
        "routes": [a.route for a in asked],
        "keys": [a.key for a in asked],
        "run_ids": [a.run_id for a in asked],
    }


def _answer_of(status: str) -> bytes | None:
    return b"planted" if status == "done" else None


def _is(row: dict[str, Any], asked: Asked) -> bool:
    found = row["principal"], row["route"], row["idempotency_key"]
    return found == (asked.principal, asked.route, asked.key)
