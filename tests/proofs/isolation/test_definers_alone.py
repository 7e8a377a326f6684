"""Two orgs with calls of the same ids: what the append functions do for one leaves the other's."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from tenantplane.core.ids import new_id
from tenantplane.core.money import NanoUSD
from tests.fixtures.ledger import Ledger
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation.request_functions import keys_of_one_org, rows_of_the_same_key
from tests.proofs.isolation.test_definers import (
    Rivals,
    _append_intents,
    _append_outcomes,
    _intent,
    _outcome,
    rivals,
)

pytestmark = pytest.mark.proof
__all__ = ["rivals"]


async def _twins(rivals: Rivals) -> tuple[str, str]:
    """Proofs of victim and intruder, once the intruder has an intent of the victim's very ids."""
    mine = replace(
        rivals.open_intent,
        org_id=rivals.intruder,
        root_org_id=rivals.intruder,
        hold_nanousd=NanoUSD(7),
    )
    theirs, own = rivals.proof(rivals.victim), rivals.proof(rivals.intruder)
    assert await _append_intents(rivals.ledger, [mine], [own]) == ["ok"]
    return theirs, own


@pytest.mark.req("R6")
@pytest.mark.fault("F22")
async def test_an_intent_of_the_same_ids_is_enlarged_in_its_own_org(
    rivals: Rivals, proof_cases: ProofCases
) -> None:
    _, own = await _twins(rivals)
    before = await rivals.everything_of_the_victim()
    larger = replace(
        rivals.open_intent,
        org_id=rivals.intruder,
        root_org_id=rivals.intruder,
        hold_nanousd=NanoUSD(9_000),
    )
    assert await _append_intents(rivals.ledger, [larger], [own]) == ["ok"]
    assert await rivals.everything_of_the_victim() == before
    assert await _holds(rivals.ledger, rivals.intruder) == [9_000]
    # A call number is taken in its own org alone: the answer tells nothing of another's.
    late = replace(
        rivals.open_intent,
        org_id=rivals.intruder,
        root_org_id=rivals.intruder,
        intent_id=new_id(),
        run_id=rivals.open_intent.run_id,
        call_no=5,
    )
    of_the_victim = replace(late, org_id=rivals.victim, root_org_id=rivals.victim)
    theirs = rivals.proof(rivals.victim)
    assert await _append_intents(rivals.ledger, [of_the_victim], [theirs]) == ["ok"]
    past = replace(late, intent_id=new_id(), commit_by=late.commit_by.replace(year=2020))
    assert await _append_intents(rivals.ledger, [past], [own]) == ["late"]
    # The very id is free too, where only another org has it.
    gone = replace(past, intent_id=of_the_victim.intent_id)
    assert await _append_intents(rivals.ledger, [gone], [own]) == ["late"]
    proof_cases.add(4)


@pytest.mark.req("R3")
async def test_rows_with_their_own_proofs_are_taken(
    ledger: Ledger, new_org: str, proof_cases: ProofCases
) -> None:
    orgs = [new_org, f"{new_org}-b", new_org]
    proofs = [ledger.database.proof_for(org_id) for org_id in orgs]
    rows = [await _intent(ledger, org_id) for org_id in orgs]
    assert await _append_intents(ledger, rows, proofs) == ["ok"] * 3
    answers = await _append_outcomes(ledger, [_outcome(row) for row in rows], proofs)
    assert [answer[0] for answer in answers] == ["ok"] * 3
    proof_cases.add(2)


@pytest.mark.req("R6")
async def test_an_id_or_a_call_number_is_taken_once_in_its_own_org(
    rivals: Rivals, proof_cases: ProofCases
) -> None:
    ledger, theirs = rivals.ledger, rivals.proof(rivals.victim)
    before = await rivals.everything_of_the_victim()
    same_id = replace(rivals.open_intent, run_id=new_id(), hold_nanousd=NanoUSD(9_000))
    same_call = replace(rivals.open_intent, intent_id=new_id(), hold_nanousd=NanoUSD(9_000))
    for other in (same_id, same_call):
        assert await _append_intents(ledger, [other], [theirs]) == ["duplicate"]
    assert await rivals.everything_of_the_victim() == before
    proof_cases.add(2)


@pytest.mark.req("R6")
@pytest.mark.fault("F22")
async def test_an_outcome_of_the_same_ids_ends_the_call_of_its_own_org(
    rivals: Rivals, proof_cases: ProofCases
) -> None:
    theirs, own = await _twins(rivals)
    before = await rivals.everything_of_the_victim()
    mine = replace(_outcome(rivals.open_intent), org_id=rivals.intruder, cost_nanousd=NanoUSD(3))
    assert await _append_outcomes(rivals.ledger, [mine], [own]) == [
        ("ok", mine.event_id, mine.record_id, 3)
    ]
    assert await rivals.everything_of_the_victim() == before
    # The victim's call is open still, and ends with its own amount.
    others = replace(_outcome(rivals.open_intent), cost_nanousd=NanoUSD(4))
    assert await _append_outcomes(rivals.ledger, [others], [theirs]) == [
        ("ok", others.event_id, others.record_id, 4)
    ]
    # Asked again, each org is told what stands in its own ledger.
    for row, proof in ((mine, own), (others, theirs)):
        again = replace(row, event_id=new_id(), record_id=new_id(), cost_nanousd=NanoUSD(99))
        assert await _append_outcomes(rivals.ledger, [again], [proof]) == [
            ("final", row.event_id, row.record_id, row.cost_nanousd)
        ]
    proof_cases.add(4)


@pytest.mark.req("R3")
@pytest.mark.fault("F15")
async def test_a_good_proof_before_it_covers_no_forged_one(
    rivals: Rivals, proof_cases: ProofCases
) -> None:
    """Each org's rows come with a proof of that org's own, and with no other."""
    ledger, own = rivals.ledger, rivals.proof(rivals.intruder)
    theirs = await _intent(ledger, rivals.victim)
    rows = [await _intent(ledger, rivals.intruder), theirs]
    assert await _append_intents(ledger, rows, [own, own]) == ["ok", "forged"]
    answers = await _append_outcomes(ledger, [_outcome(row) for row in rows], [own, own])
    assert [answer[0] for answer in answers] == ["ok", "forged"]
    for proof in (own[:-1] + ("0" if own[-1] != "0" else "1"), secrets.token_hex(8)):
        mine = await _intent(ledger, rivals.intruder)
        theirs = await _intent(ledger, rivals.victim)
        proofs = [proof, rivals.proof(rivals.victim)]
        assert await _append_intents(ledger, [mine, theirs], proofs) == ["forged", "ok"]
        outcomes = [_outcome(mine), _outcome(theirs)]
        answers = await _append_outcomes(ledger, outcomes, proofs)
        assert [answer[0] for answer in answers] == ["forged", "ok"]
    proof_cases.add(6)


async def _holds(ledger: Ledger, org_id: str) -> list[int]:
    rows = await ledger.query(
        "SELECT hold_nanousd FROM dataplane.intent WHERE org_id = %(org)s", org=org_id
    )
    return [row["hold_nanousd"] for row in rows]


@pytest.mark.req("R6")
@pytest.mark.fault("F22", "F42")
async def test_a_request_of_the_same_key_and_run_moves_in_its_own_org(
    rivals: Rivals, proof_cases: ProofCases
) -> None:
    database = rivals.ledger.database
    proof_cases.add(await rows_of_the_same_key(database, rivals.victim, rivals.intruder))


@pytest.mark.req("R6")
@pytest.mark.fault("F42")
async def test_a_request_is_moved_by_the_run_that_claimed_it_alone(
    ledger: Ledger, new_org: str, proof_cases: ProofCases
) -> None:
    proof_cases.add(await keys_of_one_org(ledger.database, new_org))
