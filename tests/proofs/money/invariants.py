"""What must hold of money, whatever dies: looked at while the load runs, and when all is quiet.

The direct ways into Postgres and Valkey are used, so that no fault of a link hides anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg

from tenantplane.core.errors import TenantplaneError
from tenantplane.core.valkey import keys
from tenantplane.core.valkey.answers import PeriodSpend, Spend
from tenantplane.core.valkey.requests import Level, Period
from tests.proofs.money.deployment import Deployment
from tests.proofs.money.load import Load
from tests.proofs.money.tenants import Tenants

QUIET_SECONDS: Final = 30.0
_SAMPLE_SECONDS: Final = 0.05
_POLL_SECONDS: Final = 0.1

# What each account has settled (`excess`: that part of it which a provider reported beyond a hold,
# and which was flagged), and what is held in it, in one snapshot.
_ACCOUNTS: LiteralString = """
SELECT slot.kind, slot.id,
       coalesce(sum(i.cost_nanousd), 0)::bigint AS settled,
       coalesce(sum(i.hold_nanousd) FILTER (WHERE i.stage IS NULL), 0)::bigint AS held,
       coalesce(sum(i.cost_nanousd - i.hold_nanousd)
                FILTER (WHERE i.cost_nanousd > i.hold_nanousd), 0)::bigint AS excess
  FROM dataplane.intent i,
       jsonb_to_recordset(i.slots) AS slot(kind text, id text, period text)
 WHERE i.root_org_id = ANY(%(roots)s) AND slot.period = 'month'
 GROUP BY slot.kind, slot.id
"""
# Calls whose outcomes are no chain: none at all, a stage twice, a sum that is not the last cost, an
# excess without its flag, an outcome without its audit record.
_BROKEN_CHAINS: LiteralString = """
SELECT i.intent_id, i.stage, i.cost_nanousd, i.hold_nanousd, o.stages, o.total, o.records
  FROM dataplane.intent i
  LEFT JOIN LATERAL (
    SELECT array_agg(o.stage ORDER BY o.stage DESC) AS stages, sum(o.delta_nanousd) AS total,
           count(r.record_id) AS records, bool_or(o.provider_excess) AS flagged
      FROM dataplane.outcome o
      LEFT JOIN dataplane.audit_record r
        ON r.org_id = o.org_id AND r.record_id = o.record_id AND r.intent_id = o.intent_id
     WHERE o.org_id = i.org_id AND o.intent_id = i.intent_id
  ) AS o ON true
 WHERE i.root_org_id = ANY(%(roots)s)
   AND (o.stages NOT IN ('{estimated}', '{actual}', '{estimated,actual}')
        OR o.stages IS NULL
        OR o.stages[array_upper(o.stages, 1)] IS DISTINCT FROM i.stage
        OR o.total IS DISTINCT FROM i.cost_nanousd
        OR o.records IS DISTINCT FROM cardinality(o.stages)
        OR (i.cost_nanousd > i.hold_nanousd AND NOT o.flagged))
"""
_OPEN: LiteralString = """
SELECT count(*) AS calls FROM dataplane.intent
 WHERE root_org_id = ANY(%(roots)s) AND stage IS NULL
"""
_EVENTS: LiteralString = """
SELECT o.event_id, o.delta_nanousd FROM dataplane.outcome o
  JOIN dataplane.intent i ON i.org_id = o.org_id AND i.intent_id = o.intent_id
 WHERE i.root_org_id = ANY(%(roots)s)
"""
_RUNS: LiteralString = """
SELECT i.run_id, sum(o.delta_nanousd)::bigint AS cost, array_agg(o.record_id) AS records
  FROM dataplane.intent i
  JOIN dataplane.outcome o ON o.org_id = i.org_id AND o.intent_id = i.intent_id
 WHERE i.root_org_id = ANY(%(roots)s) GROUP BY i.run_id
"""
_MODEL_CALLS: LiteralString = """
SELECT org_id, count(*) AS calls FROM dataplane.intent
 WHERE root_org_id = ANY(%(roots)s) AND kind = 'model' GROUP BY org_id
"""


@dataclass
class Findings:
    """What does not hold, in words; and how often it was looked at."""

    violations: list[str] = field(default_factory=list)
    samples: Counter[str] = field(default_factory=Counter)

    def require(self, holds: bool, said: str) -> None:
        if not holds and said not in self.violations:
            self.violations.append(said)


@asynccontextmanager
async def watched(
    deployment: Deployment, tenants: Tenants, findings: Findings
) -> AsyncIterator[None]:
    """Looks at the caps again and again for as long as the block runs."""
    ended = asyncio.Event()
    watching = asyncio.create_task(_watch(deployment, tenants, findings, ended))
    try:
        yield
    finally:
        ended.set()
        await watching


async def _watch(
    deployment: Deployment, tenants: Tenants, findings: Findings, ended: asyncio.Event
) -> None:
    while not ended.is_set():
        await asyncio.sleep(_SAMPLE_SECONDS)
        with contextlib.suppress(psycopg.OperationalError, TenantplaneError):
            await look_at_caps(deployment, tenants, findings)


async def look_at_caps(deployment: Deployment, tenants: Tenants, findings: Findings) -> None:
    """Raises OperationalError, DependencyUnavailable where a server is away."""
    # Valkey first: what it has settled, Postgres has committed. So its excess is known below.
    in_valkey = await _in_valkey(deployment, tenants)
    rows = await deployment.query(_ACCOUNTS, roots=tenants.roots)
    in_postgres = {(row["kind"], row["id"]): row for row in rows}
    findings.samples["postgres"] += 1
    findings.samples["valkey"] += len(in_valkey) == len(tenants.accounts)
    for account in tenants.accounts:
        name, cap = (account.kind, account.id), account.hard_cap_nanousd
        row = in_postgres.get(name, {"settled": 0, "held": 0, "excess": 0})
        counted = row["settled"] - row["excess"] + row["held"]
        findings.samples["excess"] += row["excess"] > 0
        findings.require(
            counted <= cap, f"Postgres: {name} has settled and held {counted} of {cap}"
        )
        if spend := in_valkey.get(name):
            counted = spend.settled_nanousd - row["excess"] + spend.held_nanousd
            findings.require(
                counted <= cap, f"Valkey: {name} has settled and held {counted} of {cap}"
            )


async def check_when_quiet(
    deployment: Deployment, tenants: Tenants, load: Load, findings: Findings
) -> None:
    """Waits until everything is closed, then looks at all that must hold then."""
    await _wait_until_quiet(deployment, tenants, findings)
    await look_at_caps(deployment, tenants, findings)
    await _check_amounts(deployment, tenants, findings)
    await _check_holds(deployment, tenants, findings)
    for row in await deployment.query(_BROKEN_CHAINS, roots=tenants.roots):
        findings.require(False, f"no chain of outcomes: {row}")
    await _check_events(deployment, tenants, findings)
    await _check_answers(deployment, tenants, load, findings)
    await _check_provider(deployment, tenants, findings)
    for said in load.unexpected:
        findings.require(False, f"unexpected answer: {said}")


async def _wait_until_quiet(deployment: Deployment, tenants: Tenants, findings: Findings) -> None:
    deadline = time.monotonic() + QUIET_SECONDS
    while left := await _unquiet(deployment, tenants):
        if time.monotonic() > deadline:
            findings.require(False, f"not quiet after {QUIET_SECONDS:.0f} s: {left}")
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _unquiet(deployment: Deployment, tenants: Tenants) -> str:
    """What is not at its end yet."""
    # Whoever asks what a tenant spent has its root installed, where Valkey lost it.
    for caller in tenants.callers:
        replica = deployment.replicas[0]
        headers = {"authorization": f"Bearer {caller.secret}"}
        url = replica.base_url + "/tp/v1/spend"
        async with deployment.http.get(url, headers=headers) as answer:
            if answer.status != 200:
                return f"/tp/v1/spend answers {answer.status}"
    rows = await deployment.query(_OPEN, roots=tenants.roots)
    if rows[0]["calls"]:
        return f"{rows[0]['calls']} calls have no outcome"
    for name, spend in (await _in_valkey(deployment, tenants)).items():
        if spend.held_nanousd:
            return f"{spend.held_nanousd} are held by {name}"
    events = await deployment.query(_EVENTS, roots=tenants.roots)
    missing = sum(str(row["event_id"]) not in deployment.plane.usage for row in events)
    return f"{missing} events are not shipped" if missing else ""


async def _check_amounts(deployment: Deployment, tenants: Tenants, findings: Findings) -> None:
    rows = await deployment.query(_ACCOUNTS, roots=tenants.roots)
    in_postgres = {(row["kind"], row["id"]): row["settled"] for row in rows}
    in_valkey = await _in_valkey(deployment, tenants)
    for account in tenants.accounts:
        name = (account.kind, account.id)
        spend = in_valkey.get(name)
        settled = spend.settled_nanousd if spend else None
        findings.require(
            settled == in_postgres.get(name, 0),
            f"{name}: Valkey has {settled}, the ledger {in_postgres.get(name, 0)}",
        )


async def _check_holds(deployment: Deployment, tenants: Tenants, findings: Findings) -> None:
    epoch = await _epoch(deployment)
    for root in tenants.roots:
        deadlines = keys.of_root(root, epoch)[1]
        left = await deployment.store._redis.zcard(deadlines)
        findings.require(left == 0, f"{root}: {left} holds outlived their end")


async def _check_events(deployment: Deployment, tenants: Tenants, findings: Findings) -> None:
    rows = await deployment.query(_EVENTS, roots=tenants.roots)
    ledger = {str(row["event_id"]): row["delta_nanousd"] for row in rows}
    shipped = {
        event_id: event.delta_nanousd
        for event_id, event in deployment.plane.usage.items()
        if event.root_org_id in tenants.roots
    }
    findings.require(
        shipped == ledger,
        f"events sum up to {sum(shipped.values())} in {len(shipped)}, the ledger to "
        f"{sum(ledger.values())} in {len(ledger)}",
    )


async def _check_answers(
    deployment: Deployment, tenants: Tenants, load: Load, findings: Findings
) -> None:
    runs = {row["run_id"]: row for row in await deployment.query(_RUNS, roots=tenants.roots)}
    for answered in load.answered:
        run = runs.get(UUID(answered.run_id))
        known = {str(record) for record in run["records"]} if run else set()
        findings.require(
            set(answered.record_ids) <= known,
            f"run {answered.run_id} was answered without its outcome",
        )
        findings.require(
            run is not None and run["cost"] == answered.cost_nanousd,
            f"run {answered.run_id} cost {run and run['cost']}, its caller was told "
            f"{answered.cost_nanousd}",
        )


async def _check_provider(deployment: Deployment, tenants: Tenants, findings: Findings) -> None:
    rows = await deployment.query(_MODEL_CALLS, roots=tenants.roots)
    intents = {row["org_id"]: row["calls"] for row in rows}
    for org in tenants.orgs:
        asked = deployment.model.calls[org]
        findings.require(
            asked <= intents.get(org, 0),
            f"{org}: the provider was asked {asked} times, intents are {intents.get(org, 0)}",
        )


async def _in_valkey(
    deployment: Deployment, tenants: Tenants
) -> dict[tuple[str, str], PeriodSpend]:
    """The month of each account whose root is installed."""
    epoch = await _epoch(deployment)
    found: dict[tuple[str, str], PeriodSpend] = {}
    for root in tenants.roots:
        levels = [
            Level(account.kind, account.id, periods=_months())
            for account in tenants.accounts
            if account.root_org_id == root
        ]
        answer = await deployment.store.spend(root, epoch, levels)
        if isinstance(answer, Spend):
            found |= {(p.level_kind, p.level_id): p for p in answer.periods}
    return found


async def _epoch(deployment: Deployment) -> int:
    rows: list[dict[str, Any]] = await deployment.query("SELECT epoch FROM dataplane.ledger_epoch")
    return int(rows[0]["epoch"])


def _months() -> tuple[Period, ...]:
    """This month and the next, in UTC."""
    first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    second = (first + timedelta(days=32)).replace(day=1)
    third = (second + timedelta(days=32)).replace(day=1)
    return tuple(
        Period("month", f"{begin:%Y-%m}", int(begin.timestamp()), int(end.timestamp()))
        for begin, end in ((first, second), (second, third))
    )
