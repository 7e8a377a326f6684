"""Money under seeded schedules of kills: two replicas, Valkey, Postgres and the ways between them
are killed at each gap of a call while sixteen callers are at work, and nothing is lost or free.

    python -m pytest tests/proofs/money/test_schedules.py --schedules 1000     the soak
    python -m pytest tests/proofs/money/test_schedules.py --seed 17            one of them again
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.fixtures.proofs import ProofCases
from tests.fixtures.scripted_control_plane import ScriptedControlPlane
from tests.proofs.money.deployment import Deployment
from tests.proofs.money.invariants import Findings, check_when_quiet, watched
from tests.proofs.money.kills import run_kills
from tests.proofs.money.load import REQUESTS, Load, under_load
from tests.proofs.money.schedules import GAPS, KINDS, Kill, Schedule, schedule
from tests.proofs.money.tenants import make_tenants

# Orgs are never forgotten, and each sweep looks at them all: a fresh deployment now and then.
SCHEDULES_A_DEPLOYMENT = 40
SCHEDULE_SECONDS = 120.0

Deploy = Callable[[], Awaitable[Deployment]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("seed")
        count = metafunc.config.getoption("schedules")
        seeds = [chosen] if chosen is not None else range(1, count + 1)
        metafunc.parametrize("seed", seeds, ids=lambda seed: f"seed-{seed}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def deploy(scripted_control_plane: ScriptedControlPlane) -> AsyncIterator[Deploy]:
    """The deployment that schedules share, one after the other; a new one where the last failed."""
    async with AsyncExitStack() as opened:
        inner = await opened.enter_async_context(AsyncExitStack())
        current: list[Deployment] = []
        used = 0

        async def get() -> Deployment:
            nonlocal used
            used += 1
            spoilt = current and (current[0].spoilt or used > SCHEDULES_A_DEPLOYMENT)
            if spoilt:
                await inner.aclose()
                current.clear()
            if not current:
                used = 1
                started = Deployment.started(scripted_control_plane)
                current.append(await inner.enter_async_context(started))
            return current[0]

        yield get


def test_sixty_schedules_kill_in_each_gap_by_each_kind_three_times() -> None:
    kills = [kill for seed in range(1, 61) for kill in schedule(seed).kills]

    assert Counter((kill.kind, kill.gap) for kill in kills) == dict.fromkeys(
        [(kind, gap) for kind in KINDS for gap in GAPS], 3
    )


@pytest.mark.proof
@pytest.mark.req("R32", "R33")
@pytest.mark.fault("F35", "F36", "F37", "F38", "F49")
async def test_no_schedule_of_kills_loses_or_gives_away_money(
    deploy: Deploy,
    seed: int,
    proof_cases: ProofCases,
    record_property: Callable[[str, object], None],
) -> None:
    deployment = await deploy()
    deployment.spoilt = True  # until this one has ended well
    async with asyncio.timeout(SCHEDULE_SECONDS):
        load, findings = await run(deployment, schedule(seed), record_property)

    assert findings.violations == [], f"seed {seed}: {deployment.last_words()}"
    deployment.spoilt = False
    proof_cases.add(load.requests)
    assert load.requests >= REQUESTS
    assert min(findings.samples["valkey"], findings.samples["postgres"]) >= 5
    assert load.answered
    assert load.refused


async def run(
    deployment: Deployment,
    plan: Schedule,
    record_property: Callable[[str, object], None],
) -> tuple[Load, Findings]:
    """The load, the kills, the wait, the checks."""
    tenants = await make_tenants(deployment, f"s{plan.seed}-{secrets.token_hex(3)}")
    await deployment.all_serve(tenants.callers[-1].secret)
    findings = Findings()
    async with (
        watched(deployment, tenants, findings),
        under_load(deployment, tenants, plan.seed) as load,
    ):
        await run_kills(deployment, plan.kills)
    await check_when_quiet(deployment, tenants, load, findings)
    _report(plan.kills, load, findings, record_property)
    return load, findings


def _report(
    kills: tuple[Kill, ...],
    load: Load,
    findings: Findings,
    record_property: Callable[[str, object], None],
) -> None:
    """Each kill was made where it was meant to be: `run_kills` fails otherwise."""
    for kill in kills:
        record_property("kill", f"{kill.kind}@{kill.gap}")
    for status, count in load.statuses.items():
        record_property(f"load {status}", count)
    record_property("load broken", load.broken)
    record_property("load answered whole", len(load.answered))
    for what, count in findings.samples.items():
        record_property(f"load samples of {what}", count)
