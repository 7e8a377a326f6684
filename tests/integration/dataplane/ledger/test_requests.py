"""Claims of requests on a real Postgres: given once, whatever becomes of who has one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tenantplane.core.errors import DependencyUnavailable
from tenantplane.core.ids import new_id
from tenantplane.dataplane.ledger.commit import CommitUnknown
from tenantplane.dataplane.ledger.request_retention import RequestRetention
from tenantplane.dataplane.ledger.requests import (
    Claim,
    ClaimAnswer,
    ClaimStatus,
    RequestJournal,
    RequestKey,
)
from tests.fixtures.ledger import Ledger
from tests.fixtures.runtime import until

pytestmark = pytest.mark.fault("F42")

Make = Callable[..., Awaitable[RequestJournal]]  # (lease_seconds=600, keep_seconds=600)


@pytest.fixture
async def make(ledger: Ledger) -> AsyncIterator[Make]:
    async with AsyncExitStack() as opened:

        async def journal(lease_seconds: float = 600, keep_seconds: float = 600) -> RequestJournal:
            made = RequestJournal(
                ledger.database, lease_seconds=lease_seconds, keep_seconds=keep_seconds
            )
            opened.push_async_callback(made.stop)
            await made.start()
            return made

        yield journal


def a_claim(org_id: str, key: str = "k", fingerprint: bytes = b"f" * 32) -> Claim:
    return Claim(RequestKey(org_id, "key:k1", "/v1/x", key), fingerprint, new_id())


def again(claim: Claim) -> Claim:
    return replace(claim, run_id=new_id())


async def test_of_many_claims_in_two_processes_one_is_given(make: Make, new_org: str) -> None:
    """In batches whose rows come in any order: nobody waits in a circle."""
    processes = [await make(), await make()]
    keys = [secrets.token_hex(4) for _ in range(20)]
    claims = [
        [a_claim(new_org, key) for key in keys[turn:] + keys[:turn]] for turn in range(len(keys))
    ]
    answers = await asyncio.gather(
        *(
            processes[number % 2].claim(claim)
            for number, batch in enumerate(claims)
            for claim in batch
        )
    )
    asked = [claim for batch in claims for claim in batch]
    given = [c for c, a in zip(asked, answers, strict=True) if a.status is ClaimStatus.CLAIMED]
    assert sorted(c.key.key for c in given) == sorted(keys)
    runs = {c.key.key: c.run_id for c in given}
    assert {a.status for a in answers} == {ClaimStatus.CLAIMED, ClaimStatus.IN_FLIGHT}
    assert all(a.run_id == runs[c.key.key] for c, a in zip(asked, answers, strict=True))


async def test_a_claim_is_never_given_again_when_its_lease_has_run_out(
    make: Make, new_org: str
) -> None:
    short, claim = await make(lease_seconds=0), a_claim(new_org)
    await short.claim(claim)
    assert await short.claim(again(claim)) == ClaimAnswer(ClaimStatus.INTERRUPTED, claim.run_id)
    other = replace(again(claim), fingerprint=b"o" * 32)
    assert (await short.claim(other)).status is ClaimStatus.OTHER_BODY
    # A process that was only stalled ends it all the same, and its answer is given.
    await short.keep(claim, b"sealed")
    assert await short.claim(again(claim)) == ClaimAnswer(ClaimStatus.DONE, claim.run_id)
    assert await short.response(claim.key, claim.run_id) == b"sealed"
    assert (await short.claim(other)).status is ClaimStatus.OTHER_BODY


async def test_a_renewed_lease_stands(make: Make, new_org: str) -> None:
    claim = a_claim(new_org)
    await (await make(lease_seconds=0)).claim(claim)
    journal = await make()
    await journal.renew(claim)
    assert (await journal.claim(again(claim))).status is ClaimStatus.IN_FLIGHT


async def test_what_ended_without_an_answer_says_so_at_once(make: Make, new_org: str) -> None:
    journal = await make()
    interrupted, released, large = (a_claim(new_org, key) for key in "irl")
    for claim in (interrupted, released, large):
        await journal.claim(claim)
    await journal.interrupt(interrupted)
    await journal.release(released)
    await journal.keep(large, None)
    answers = [await journal.claim(again(c)) for c in (interrupted, released, large)]
    assert [a.status for a in answers] == ["interrupted", "claimed", "not_kept"]
    assert await journal.response(large.key, large.run_id) is None


async def test_what_is_past_its_time_is_claimed_anew_and_deleted(
    make: Make, ledger: Ledger, new_org: str
) -> None:
    short, journal = await make(keep_seconds=0), await make()
    done, left, running = (a_claim(new_org, key) for key in "dlr")
    for claim in (done, left, running):
        await short.claim(claim)
    for claim in (done, left):
        await short.keep(claim, b"old")
    anew = replace(again(done), fingerprint=b"n" * 32)
    assert (await journal.claim(anew)).status is ClaimStatus.CLAIMED
    assert (await journal.claim(again(running))).status is ClaimStatus.IN_FLIGHT
    # Its first run has lost the key: what comes late changes nothing.
    await short.keep(done, b"late")
    assert (await journal.claim(again(anew))).status is ClaimStatus.IN_FLIGHT
    retention = RequestRetention(ledger.database, 60)
    assert await retention.sweep() >= 1
    assert await _keys(ledger, new_org) == ["d", "r"]


async def test_a_claim_on_a_connection_that_dies_is_found_again(
    make: Make, ledger: Ledger, new_org: str
) -> None:
    """Committed or not, the connection did not say: the same run asks again, and has it."""
    journal, claim = await make(), a_claim(new_org)
    append, broken = journal._claims._append, False

    async def then_dies(connection: Any, rows: Any) -> Any:
        nonlocal broken
        answers = await append(connection, rows)
        if not broken:
            broken = True
            await connection.close()
            raise psycopg.OperationalError("the connection is lost")
        return answers

    journal._claims._append = then_dies
    assert await journal.claim(claim) == ClaimAnswer(ClaimStatus.CLAIMED, claim.run_id)
    assert broken
    assert (await journal.claim(again(claim))).status is ClaimStatus.IN_FLIGHT


async def test_a_claim_that_stays_unknown_leaves_the_key_free(make: Make, new_org: str) -> None:
    journal, claim = await make(), a_claim(new_org)
    append = journal._claims._append

    async def then_dies(connection: Any, rows: Any) -> Any:
        await append(connection, rows)
        await connection.close()
        raise psycopg.OperationalError("the connection is lost")

    journal._claims._append = then_dies
    with pytest.raises(CommitUnknown):
        await journal.claim(claim)
    other = await make()

    async def free() -> bool:
        return (await other.claim(again(claim))).status is ClaimStatus.CLAIMED

    await until(free)


async def test_an_end_goes_on_when_its_caller_is_cancelled(make: Make, new_org: str) -> None:
    journal, claim = await make(), a_claim(new_org)
    await journal.claim(claim)
    keeping = asyncio.create_task(journal.keep(claim, b"sealed"))
    await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.wait([keeping])
    await journal.stop()
    other = await make()
    assert (await other.claim(again(claim))).status is ClaimStatus.DONE


async def test_a_foreign_proof_claims_nothing(
    make: Make, ledger: Ledger, new_org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, claim = await make(), a_claim(new_org)
    monkeypatch.setattr(ledger.database, "proof_for", lambda org_id: "k1.1.0")
    with pytest.raises(DependencyUnavailable, match="proof") as refused:
        await journal.claim(claim)
    assert not isinstance(refused.value, CommitUnknown)
    with pytest.raises(DependencyUnavailable, match="proof"):
        await journal.keep(claim, b"-")
    assert await _keys(ledger, new_org) == []


async def _keys(ledger: Ledger, org_id: str) -> list[str]:
    rows = await ledger.query(
        "SELECT idempotency_key FROM dataplane.request WHERE org_id = %(org)s ORDER BY 1",
        org=org_id,
    )
    return [row["idempotency_key"] for row in rows]
