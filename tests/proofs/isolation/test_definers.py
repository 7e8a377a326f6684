"""Functions that run with their owner's rights, whom no tenant policy binds: each asks for a proof."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio

from tenantplane.core.ids import new_id
from tenantplane.core.money import NanoUSD
from tenantplane.core.valkey.requests import Slot
from tenantplane.dataplane.ledger.call_ids import new_call_id
from tenantplane.dataplane.ledger.rows import (
    IntentRow,
    OutcomeRow,
    intent_parameters,
    outcome_answers,
    outcome_parameters,
)
from tenantplane.dataplane.ledger.statements import statement
from tenantplane.dataplane.sources.vectors.library import EmbeddingSpace, Library, NewChunk
from tests.fixtures.isolation import PlaneDatabase, Refusal, Seen, TwoTenants
from tests.fixtures.ledger import Ledger
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation import catalogue
from tests.proofs.isolation.checkpoint_functions import (
    append_with_anothers_proof,
    latest_with_anothers_proof,
)
from tests.proofs.isolation.request_functions import (
    advances_with_anothers_proof,
    claims_with_anothers_proof,
)

pytestmark = pytest.mark.proof


@dataclass(frozen=True)
class Rivals:
    """Two orgs of one ledger. The victim has an open call and one that has ended."""

    ledger: Ledger
    victim: str
    intruder: str
    open_intent: IntentRow
    ended: OutcomeRow

    async def everything_of_the_victim(self) -> list[dict[str, Any]]:
        return await self.ledger.query(
            "SELECT to_jsonb(t) AS row FROM dataplane.intent t WHERE org_id = %(org)s"
            " UNION ALL SELECT to_jsonb(t) FROM dataplane.outcome t WHERE org_id = %(org)s"
            " UNION ALL SELECT to_jsonb(t) FROM dataplane.audit_record t WHERE org_id = %(org)s"
            " ORDER BY 1",
            org=self.victim,
        )

    def proof(self, org_id: str) -> str:
        return self.ledger.database.proof_for(org_id)


@pytest_asyncio.fixture(loop_scope="session")
async def rivals(ledger: Ledger) -> Rivals:
    mark = secrets.token_hex(4)
    victim, intruder = f"victim-{mark}", f"rival-{mark}"
    intents = [await _intent(ledger, victim) for _ in range(2)]
    for intent in intents:
        assert await ledger.meter.journal.intend(intent) == "ok"
    ended = _outcome(intents[1])
    assert (await ledger.meter.journal.conclude(ended)).status == "ok"
    return Rivals(ledger, victim, intruder, intents[0], ended)


async def _intent(ledger: Ledger, org_id: str) -> IntentRow:
    now = ledger.database.clock.now()
    return IntentRow(
        org_id=org_id,
        intent_id=new_call_id(ledger.database.clock.unix()),
        root_org_id=org_id,
        run_id=new_id(),
        call_no=0,
        thread_id=None,
        user_id="user-1",
        key_id=None,
        kind="model",
        resource="assistant-1",
        hold_nanousd=NanoUSD(1000),
        price_book_version=1,
        idempotency_key=None,
        epoch=await ledger.meter.store.refresh(),
        slots=(Slot("org", org_id, "month", "2100-01", 4_102_444_800),),
        request_ciphertext=b"-",
        commit_by=now + timedelta(seconds=15),
        deadline_at=now + timedelta(seconds=60),
    )


def _outcome(intent: IntentRow) -> OutcomeRow:
    return OutcomeRow(
        org_id=intent.org_id,
        intent_id=intent.intent_id,
        stage="actual",
        event_id=new_id(),
        record_id=new_id(),
        input_tokens=1,
        output_tokens=1,
        cost_nanousd=NanoUSD(500),
        occurred_at=intent.deadline_at,
        ciphertext=b"-",
        entry=secrets.token_bytes(32),
    )


async def _append_intents(
    ledger: Ledger, rows: Sequence[IntentRow], proofs: Sequence[str]
) -> list[str]:
    values = intent_parameters(rows, _by_org(rows, proofs))
    answer = await _answer(ledger, "append_intents", values)
    statuses: list[str] = answer["statuses"]
    return statuses


async def _append_outcomes(
    ledger: Ledger, rows: Sequence[OutcomeRow], proofs: Sequence[str]
) -> list[tuple[str, UUID, UUID, int]]:
    values = outcome_parameters(rows, _by_org(rows, proofs))
    answer = await _answer(ledger, "append_outcomes", values)
    answers = outcome_answers(rows, answer["statuses"], answer["standing"])
    return [(a.status, a.event_id, a.record_id, a.cost_nanousd) for a in answers]


def _by_org(rows: Sequence[IntentRow | OutcomeRow], proofs: Sequence[str]) -> dict[str, str]:
    return {row.org_id: proof for row, proof in zip(rows, proofs, strict=True)}


async def _answer(ledger: Ledger, name: str, values: dict[str, object]) -> dict[str, Any]:
    """For each row: a bad row fails alone, and never the others' with it."""
    async with ledger.database.append_connection() as connection:
        try:
            answer = await (await connection.execute(statement(name), values)).fetchone()
        except psycopg.Error as failed:
            pytest.fail(f"{name} answered no row: {failed}")
    assert answer is not None
    return answer


async def _intents_with_anothers_proof(rivals: Rivals) -> int:
    """The row of the victim fails alone, between two of the intruder's; whatever it names."""
    ledger, mine = rivals.ledger, rivals.proof(rivals.intruder)
    aims = [
        await _intent(ledger, rivals.victim),  # a new call in the victim's name
        replace(rivals.open_intent, hold_nanousd=NanoUSD(9_000_000)),  # one that it has, enlarged
        await _intent(ledger, "never-" + secrets.token_hex(4)),
    ]
    before = await rivals.everything_of_the_victim()
    for aim in aims:
        good = [await _intent(ledger, rivals.intruder) for _ in range(2)]
        statuses = await _append_intents(ledger, [good[0], aim, good[1]], [mine] * 3)
        assert statuses == ["ok", "forged", "ok"]
    # The victim's ids are free to the intruder under its own name: no answer tells of them (F22).
    same_ids = replace(rivals.open_intent, org_id=rivals.intruder, root_org_id=rivals.intruder)
    assert await _append_intents(ledger, [same_ids], [mine]) == ["ok"]
    assert await rivals.everything_of_the_victim() == before
    return len(aims) + 1


async def _outcomes_with_anothers_proof(rivals: Rivals) -> int:
    ledger, mine = rivals.ledger, rivals.proof(rivals.intruder)
    aims = [_outcome(rivals.open_intent), rivals.ended, replace(rivals.ended, event_id=new_id())]
    before = await rivals.everything_of_the_victim()
    for aim in aims:
        intents = [await _intent(ledger, rivals.intruder) for _ in range(2)]
        assert await _append_intents(ledger, intents, [mine] * 2) == ["ok"] * 2
        good = [_outcome(intent) for intent in intents]
        answers = await _append_outcomes(ledger, [good[0], aim, good[1]], [mine] * 3)
        assert [answer[0] for answer in answers] == ["ok", "forged", "ok"]
        # It answers what was sent, never what stands: that would be the victim's.
        assert answers[1][1:] == (aim.event_id, aim.record_id, aim.cost_nanousd)
    # The victim's intent under the intruder's name is unknown, like one that never was (F22).
    guesses = (rivals.open_intent.intent_id, rivals.ended.intent_id, new_id())
    for guess in guesses:
        named = replace(rivals.ended, org_id=rivals.intruder, intent_id=guess)
        (answer,) = await _append_outcomes(ledger, [named], [mine])
        assert answer[0] == "unknown"
    assert await rivals.everything_of_the_victim() == before
    return len(aims) + len(guesses)


async def _current_org(rivals: Rivals) -> int:
    """Says the proven tenant and no other; the wrong contexts are in test_tables.py."""
    for org_id in (rivals.victim, rivals.intruder):
        async with rivals.ledger.database.tenant_tx(org_id) as cursor:
            await cursor.execute("SELECT tp.current_org() AS org")
            assert await cursor.fetchone() == {"org": org_id}
    return 2


async def _search_words(rivals: Rivals) -> int:
    """Finds the words of the proven tenant, in chunks that have the same ids as the other's."""
    database = rivals.ledger.database
    space = EmbeddingSpace("m", 1)
    for org_id, word in ((rivals.victim, "diamonds"), (rivals.intruder, "pebbles")):
        chunks = [NewChunk(f"the {word} are in the safe", [1.0], 0)]
        await Library(database, org_id).put("a.txt", "text/plain", "0" * 64, 1, "u", space, chunks)
    found = {}
    for org_id in (rivals.victim, rivals.intruder):
        async with database.tenant_tx(org_id) as cursor:
            for query in ("diamonds", "safe"):
                await cursor.execute("SELECT * FROM dataplane.search_words(%s, 10)", (query,))
                found[org_id, query] = len(await cursor.fetchall())
    assert found == {
        (rivals.victim, "diamonds"): 1,
        (rivals.victim, "safe"): 1,
        (rivals.intruder, "diamonds"): 0,
        (rivals.intruder, "safe"): 1,
    }
    async with database.unscoped_tx() as cursor:
        await cursor.execute("SELECT * FROM dataplane.search_words('safe', 10)")
        assert await cursor.fetchall() == []
    return len(found) + 1


def _system_alone(call: LiteralString) -> Callable[[Rivals], Awaitable[int]]:
    """Takes an org and no proof, so app has no EXECUTE on it: for itself no more than for others."""

    async def refused(rivals: Rivals) -> int:
        for org_id in (rivals.victim, rivals.intruder):
            async with rivals.ledger.database.tenant_tx(rivals.intruder) as cursor:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await cursor.execute(call, {"org_id": org_id})
        return 2

    return refused


async def _append_checkpoints(rivals: Rivals) -> int:
    database = rivals.ledger.database
    return await append_with_anothers_proof(database, rivals.victim, rivals.intruder)


async def _latest_checkpoints(rivals: Rivals) -> int:
    database = rivals.ledger.database
    return await latest_with_anothers_proof(database, rivals.victim, rivals.intruder)


async def _claim_requests(rivals: Rivals) -> int:
    database = rivals.ledger.database
    return await claims_with_anothers_proof(database, rivals.victim, rivals.intruder)


async def _advance_requests(rivals: Rivals) -> int:
    database = rivals.ledger.database
    return await advances_with_anothers_proof(database, rivals.victim, rivals.intruder)


WHERE: Final = "FUNCTIONS of tests/proofs/isolation/test_definers.py"
FUNCTIONS: Final[dict[str, Callable[[Rivals], Awaitable[int]]]] = {
    "tp.current_org": _current_org,
    "dataplane.append_intents": _intents_with_anothers_proof,
    "dataplane.append_outcomes": _outcomes_with_anothers_proof,
    "dataplane.append_checkpoints": _append_checkpoints,
    "dataplane.claim_requests": _claim_requests,
    "dataplane.advance_requests": _advance_requests,
    "dataplane.latest_checkpoints": _latest_checkpoints,
    "dataplane.search_words": _search_words,
    "dataplane.open_shelf": _system_alone("SELECT dataplane.open_shelf(%(org_id)s)"),
    "dataplane.shelve_chunks": _system_alone("SELECT dataplane.shelve_chunks(%(org_id)s, 10)"),
    "dataplane.unshelve_chunks": _system_alone("SELECT dataplane.unshelve_chunks(%(org_id)s, 10)"),
    "dataplane.clear_shelves": _system_alone("SELECT dataplane.clear_shelves()"),
}


@pytest.mark.req("R6")
async def test_every_function_that_app_may_run_has_its_case(
    isolation_databases: Mapping[str, PlaneDatabase],
) -> None:
    found: dict[str, bool] = {}
    for database in isolation_databases.values():
        found |= await catalogue.functions(database)
    catalogue.require_declared("A function open to app, or definer", found, FUNCTIONS, WHERE)


@pytest.mark.req("R3", "R6")
@pytest.mark.fault("F15", "F22")
@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_proof_of_one_tenant_opens_nothing_of_another(
    rivals: Rivals, function: str, proof_cases: ProofCases
) -> None:
    proof_cases.add(await FUNCTIONS[function](rivals))


@pytest.mark.req("R3")
@pytest.mark.fault("F15")
@pytest.mark.parametrize("name", ["control", "data"])
async def test_app_cannot_make_a_proof(
    isolation_databases: Mapping[str, PlaneDatabase],
    two_tenants: TwoTenants,
    name: str,
    proof_cases: ProofCases,
) -> None:
    """Neither by reading the key, nor by asking the function that checks one, nor by editing."""
    database = isolation_databases[name]
    attempts = (
        "SELECT * FROM tp.context_key",
        "SELECT tp.verify_proof('acme', 'k1.1.0')",
        "UPDATE tp.context_key SET valid_until = NULL",
        "INSERT INTO tp.context_key (key_id, inner_pad, outer_pad) VALUES ('k9', '', '')",
        "ALTER FUNCTION tp.current_org() RESET ALL",
        "CREATE FUNCTION tp.current_org(x int) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
        "SET LOCAL row_security = off",
    )
    for attempt in attempts[:-1]:
        refused = await database.attempt(two_tenants.intruder.org_id, attempt)
        assert isinstance(refused, Refusal), attempt
        assert refused.sqlstate == "42501", attempt
    # Switching row security off makes a query fail that a policy would have filtered.
    async with database.as_app(two_tenants.intruder.org_id) as cursor:
        await cursor.execute(attempts[-1])
        table = {"control": "controlplane.org", "data": "dataplane.note"}[name]
        with pytest.raises(Exception, match="row-level security"):
            await cursor.execute(f"SELECT 1 FROM {table}")
    assert isinstance(await database.attempt(two_tenants.intruder.org_id, "SELECT 1"), Seen)
    proof_cases.add(len(attempts))
