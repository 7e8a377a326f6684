"""The proof of a tenant context alone: tp.verify_proof says true or false, and each check in it is
met by a proof that only this check refuses."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Final

import pytest
from psycopg import sql

from tenantplane.core.db.proof import hmac_pads
from tests.fixtures.isolation import PlaneDatabase, Seen
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation.two_orgs import opened

pytestmark = pytest.mark.proof

ORG: Final = "acme"
_ASK: Final = sql.SQL("SELECT tp.verify_proof(%s::text, %s::text) AS valid")
_INSTALL: Final = sql.SQL(
    "INSERT INTO tp.context_key (key_id, inner_pad, outer_pad, valid_until)"
    " VALUES (%s, %s, %s, now() + %s::interval)"
)


def _signed(key_id: str, key: bytes, org: str, expiry: str) -> str:
    """As a holder of the key could, whatever stands in it."""
    code = hmac.digest(key, f"{org}|{expiry}".encode(), hashlib.sha256).hex()
    return f"{key_id}.{expiry}.{code}"


@pytest.mark.req("R3")
@pytest.mark.fault("F15")
@pytest.mark.parametrize("name", ["control", "data"])
async def test_each_flaw_of_a_proof_is_enough(
    isolation_databases: Mapping[str, PlaneDatabase], name: str, proof_cases: ProofCases
) -> None:
    now = int(time.time())
    key, ended, later = (secrets.token_bytes(32) for _ in range(3))
    soon = str(now + 60)
    good = _signed("fresh", key, ORG, soon)
    flawed: dict[str, tuple[str | None, str | None]] = {
        "no org": (None, good),
        "no proof": (ORG, None),
        "an empty proof": (ORG, ""),
        "no expiry": (ORG, _signed("fresh", key, ORG, "")),
        "an expiry beyond any calendar": (ORG, _signed("fresh", key, ORG, "9" * 13)),
        "an expiry with a sign": (ORG, _signed("fresh", key, ORG, f"+{soon}")),
        "an expiry that is no number": (ORG, _signed("fresh", key, ORG, "1e9")),
        "a fourth part": (ORG, f"{good}.more"),
        "expired": (ORG, _signed("fresh", key, ORG, str(now - 5))),
        "of another org": (ORG, _signed("fresh", key, "globex", soon)),
        "signed for another time": (ORG, good.replace(soon, str(now + 600))),
        "of another key": (ORG, _signed("fresh", later, ORG, soon)),
        "of a key that is not there": (ORG, _signed("absent", key, ORG, soon)),
        "of a key that has ended": (ORG, _signed("ended", ended, ORG, soon)),
        "without a code": (ORG, f"fresh.{soon}."),
        "of the code's first half": (ORG, good[:-32]),
    }
    async with opened(isolation_databases[name]) as inside:
        await inside.become("owner")
        for key_id, secret, life in (
            ("fresh", key, "1 hour"),
            ("later", later, "1 hour"),
            ("ended", ended, "-1 second"),
        ):
            pads = hmac_pads(secret)
            await inside.act(_INSTALL, key_id, *pads, life)
        assert await inside.attempt(_ASK, ORG, good) == Seen(1, [{"valid": True}])
        by_the_second = _signed("later", later, ORG, soon)
        assert await inside.attempt(_ASK, ORG, by_the_second) == Seen(1, [{"valid": True}])
        for flaw, (org, proof) in flawed.items():
            answer = await inside.attempt(_ASK, org, proof)
            # False, and not NULL: what asks `IF NOT` would go on.
            assert answer == Seen(1, [{"valid": False}]), flaw
    proof_cases.add(len(flawed) + 2)


@pytest.mark.req("R2", "R3")
@pytest.mark.fault("F15")
@pytest.mark.parametrize("name", ["control", "data"])
async def test_the_current_org_is_the_proven_one_or_none(
    isolation_databases: Mapping[str, PlaneDatabase], name: str, proof_cases: ProofCases
) -> None:
    database = isolation_databases[name]
    ask = sql.SQL("SELECT tp.current_org() AS org")
    assert await database.attempt(ORG, ask) == Seen(1, [{"org": ORG}])
    # Never set, and set and over, are the same: nobody, and no error.
    for context in (None, ("", ""), ("", database.pool.proof_for(ORG))):
        assert await database.attempt_in(context, ask) == Seen(1, [{"org": None}])
    for proof in ("", "garbage", database.pool.proof_for("globex")):
        refused = await database.attempt_in((ORG, proof), ask)
        assert "tenant context refused" in str(refused), proof
    proof_cases.add(7)
