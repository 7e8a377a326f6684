"""A process is killed at each gap of a call: the call ends exactly once, and is never free."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tenantplane.dataplane.ledger.times import LedgerTimes
from tests.fixtures.ledger import Ledger, MakeLedger, a_snapshot
from tests.proofs.money.dying_process import GAPS

ROOT = Path(__file__).parents[3]
# Scaled down, so that an orphaned hold expires while the test waits for it.
SECONDS = {"commit_window": 1.0, "grace": 0.5, "clock_margin": 0.1}
DEADLINE_SECONDS = 0.5
HOLD, COST = 500, 120

# What Postgres says in the end: outcomes (stage, cost) of the call.
EXPECTED = {
    "before_hold": [],
    "hold_to_intent": [],
    "intent_to_outcome": [("estimated", HOLD)],
    "outcome_to_settle": [("actual", COST)],
    "after_settle": [("actual", COST)],
}


@pytest.mark.proof
@pytest.mark.fault("F37", "F49")
@pytest.mark.parametrize("gap", GAPS)
async def test_a_kill_at_any_gap_ends_the_call_exactly_once(
    make_ledger: MakeLedger, new_org: str, gap: str
) -> None:
    times = LedgerTimes(**{name: timedelta(seconds=s) for name, s in SECONDS.items()})
    ledger = await make_ledger(times)
    snapshot = a_snapshot(new_org)
    assert await ledger.in_valkey(snapshot) == (0, 0)

    await run_and_die(ledger, new_org, gap)

    if gap in ("hold_to_intent", "intent_to_outcome", "outcome_to_settle"):
        assert await ledger.in_valkey(snapshot) == (0, HOLD)  # unknown spend stays counted
    total = sum(cost for _, cost in EXPECTED[gap])
    sweepers = [ledger.sweeper(new_org), (await ledger.replica()).sweeper(new_org)]
    async with asyncio.timeout(30):
        while await ledger.in_valkey(snapshot) != (total, 0):
            await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))
            await asyncio.sleep(0.05)
    await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))

    outcomes = await ledger.query(
        "SELECT o.stage, o.cost_nanousd FROM dataplane.outcome o WHERE o.org_id = %(org)s",
        org=new_org,
    )
    assert [(row["stage"], row["cost_nanousd"]) for row in outcomes] == EXPECTED[gap]
    records = await ledger.query(
        "SELECT record_id FROM dataplane.audit_record WHERE org_id = %(org)s", org=new_org
    )
    assert len(records) == len(EXPECTED[gap])
    assert await ledger.open_holds_in_postgres(new_org) == 0
    assert await ledger.settled_in_postgres(new_org) == total
    assert await ledger.in_valkey(snapshot) == (total, 0)


async def run_and_die(ledger: Ledger, org: str, gap: str) -> None:
    settings = ledger.provisioned.settings
    orders = {
        "app_dsn": settings.app_dsn.get_secret_value(),
        "system_dsn": settings.system_dsn.get_secret_value(),
        "context_key_id": settings.context_key_id,
        "context_key": settings.context_key.get_secret_value(),
        "valkey_url": ledger.valkey.settings.url.get_secret_value(),
        "master_key": ledger.master_key.hex(),
        "times": SECONDS,
        "org": org,
        "gap": gap,
        "hold": HOLD,
        "cost": COST,
        "deadline": DEADLINE_SECONDS,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.proofs.money.dying_process",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate(json.dumps(orders).encode())
    assert process.returncode == -signal.SIGKILL, errors.decode()
