"""The functions that read and append agents' state of many orgs at once: nothing without a proof."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

import psycopg
import pytest

from tenantplane.core.db.pool import Database
from tenantplane.dataplane.runtime.statements import statement


async def append_with_anothers_proof(database: Database, victim: str, intruder: str) -> int:
    """The victim's rows are left out between two of the intruder's, whatever the proof for it."""
    thread = secrets.token_hex(8)
    assert await _append(database, {victim: database.proof_for(victim)}, victim, thread) == []
    before = await _state(database, victim)
    assert before == {"checkpoint": 1, "checkpoint_blob": 1, "checkpoint_write": 1}
    mine = database.proof_for(intruder)
    aims: list[dict[str, str]] = [
        {intruder: mine},  # none for the victim
        {intruder: mine, victim: mine},
        {intruder: mine, victim: ""},
        {intruder: mine, victim: database.proof_for(victim)[:-1] + "x"},
    ]
    for proofs in aims:
        for target in (thread, secrets.token_hex(8)):  # one that is there, and one that is not
            refused = await _append(database, proofs, victim, target, body=b"planted")
            assert refused == ([victim] if victim in proofs else [])
        assert await _append(database, proofs, intruder, thread) in ([], [victim])
    assert await _state(database, victim) == before
    assert await _bodies(database, victim) == {b"sealed"}
    assert (await _state(database, intruder))["checkpoint"] == 1
    return 3 * len(aims)


async def latest_with_anothers_proof(database: Database, victim: str, intruder: str) -> int:
    """It reads with its caller's rights, as each proven tenant in turn: a wrong proof is refused,
    and a right one shows one's own rows, whichever thread is named."""
    thread = secrets.token_hex(8)
    proofs = {org: database.proof_for(org) for org in (victim, intruder)}
    await _append(database, proofs, victim, thread)
    for proof in (proofs[intruder], "", "k1.1.0"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await _latest(database, victim, proof, f"{victim}::{thread}")
    for named in (f"{victim}::{thread}", f"{intruder}::{thread}"):
        assert await _with_a_good_proof(database, intruder, named) == []
    own = await _with_a_good_proof(database, victim, f"{victim}::{thread}")
    kinds = [row["kind"] for row in own]
    assert sorted(kinds) == ["blob", "checkpoint", "write"]
    await _leaves_nobody_entered(database, victim, proofs[victim], f"{victim}::{thread}")
    return 3 + 2 + 1 + 1


async def _with_a_good_proof(
    database: Database, org_id: str, thread_id: str
) -> list[dict[str, Any]]:
    try:
        return await _latest(database, org_id, database.proof_for(org_id), thread_id)
    except psycopg.errors.InsufficientPrivilege:
        pytest.fail("a good proof was refused")


async def _leaves_nobody_entered(
    database: Database, org_id: str, proof: str, thread_id: str
) -> None:
    """What comes after it in its transaction is nobody's, and finds no proof to be used again."""
    wanted = json.dumps([{"o": org_id, "p": proof, "w": [{"t": thread_id, "n": ""}]}])
    async with database.unscoped_tx() as cursor:
        await cursor.execute(
            statement("latest_checkpoints"), {"wanted": wanted, "most_bytes": 1000}
        )
        assert len(await cursor.fetchall()) == 3
        await cursor.execute(
            "SELECT current_setting('app.current_tenant', true) AS org,"
            " current_setting('app.tenant_proof', true) AS proof"
        )
        assert await cursor.fetchone() == {"org": "", "proof": ""}
        await cursor.execute("SELECT FROM dataplane.checkpoint")
        assert cursor.rowcount == 0


async def _append(
    database: Database, proofs: dict[str, str], org_id: str, thread: str, body: bytes = b"sealed"
) -> list[str]:
    place = {"o": org_id, "t": f"{org_id}::{thread}", "n": "", "i": "1", "d": _base64(body)}
    rows = {
        "checkpoints": [place | {"b": ["1:messages"]}],
        "blobs": [place | {"i": "1:messages"}],
        "writes": [place | {"k": "task", "x": -1, "a": "", "c": "messages"}],
    }
    async with database.append_connection() as connection:
        cursor = await connection.execute(
            statement("append_checkpoints"),
            {"proofs": json.dumps(proofs), **{name: json.dumps(r) for name, r in rows.items()}},
        )
        answer = await cursor.fetchone()
    assert answer is not None
    return list(answer["refused"])


async def _latest(
    database: Database, org_id: str, proof: str, thread_id: str
) -> list[dict[str, Any]]:
    wanted = [{"o": org_id, "p": proof, "w": [{"t": thread_id, "n": ""}]}]
    async with database.append_connection() as connection:
        cursor = await connection.execute(
            statement("latest_checkpoints"), {"wanted": json.dumps(wanted), "most_bytes": 1000}
        )
        return await cursor.fetchall()


async def _state(database: Database, org_id: str) -> dict[str, int]:
    async with database.tenant_tx(org_id) as cursor:
        await cursor.execute(
            "SELECT (SELECT count(*) FROM dataplane.checkpoint) AS checkpoint,"
            " (SELECT count(*) FROM dataplane.checkpoint_blob) AS checkpoint_blob,"
            " (SELECT count(*) FROM dataplane.checkpoint_write) AS checkpoint_write"
        )
        row = await cursor.fetchone()
    assert row is not None
    return dict(row)


async def _bodies(database: Database, org_id: str) -> set[bytes]:
    async with database.tenant_tx(org_id) as cursor:
        await cursor.execute(
            "SELECT body FROM dataplane.checkpoint UNION ALL"
            " SELECT body FROM dataplane.checkpoint_blob UNION ALL"
            " SELECT body FROM dataplane.checkpoint_write"
        )
        return {bytes(row["body"]) for row in await cursor.fetchall()}


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()
