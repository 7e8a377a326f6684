"""Whether the books agree: Postgres with itself, with Valkey, with the control plane, and with what
a provider reports. Each difference is said with both amounts.

Calls go on meanwhile. A difference between Postgres and Valkey counts where it is seen three times
running: between an outcome and its settlement lies a moment. So with the control plane: an event is
on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tenantplane.core.apis.events import OrgUsage
from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.money import format_usd
from tenantplane.core.valkey.requests import Installation, Level, Period, Slot
from tenantplane.dataplane.gate.admission import placed_slots, plan_levels
from tenantplane.dataplane.ledger.installation import read_installation
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.ledger.provider_report import ProviderReport
from tenantplane.dataplane.ledger.statements import statement
from tenantplane.dataplane.ledger.watermark import Reporter, known_usage

CHECK: Final = system_job("ledger.check", "compares a tree's accounts, which its orgs share")

_LOOKS: Final = 3
_BETWEEN_LOOKS_SECONDS: Final = 0.2
_LEVELS_A_QUESTION: Final = 16

_Account = tuple[str, str, str, str]  # kind, id, period, period id


@dataclass(slots=True)
class _Sum:
    end_unix: int
    settled: int = 0
    held: int = 0


class Book(StrEnum):
    """What the ledger's outcomes are compared with."""

    ROLLS = "rolls"
    VALKEY_SETTLED = "valkey, settled"
    VALKEY_HELD = "valkey, held"
    OUTCOMES = "calls without an outcome"
    CONTROL_PLANE = "control plane"
    PROVIDER_CALL = "provider, estimated call"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Difference:
    """What the ledger says of `subject`, and what the other book does, in nano-dollars."""

    book: Book
    subject: str
    ledger_nanousd: int
    other_nanousd: int

    def __str__(self) -> str:
        ledger, other = format_usd(self.ledger_nanousd), format_usd(self.other_nanousd)
        return f"{self.book}: {self.subject}: {ledger} in the ledger, {other} there"


async def check(
    meter: Meter,
    snapshot: Snapshot,
    *,
    control: Reporter | None,
    report: ProviderReport | None,
) -> list[Difference]:
    """All differences, of the org's whole tree where accounts are compared, of the org alone where
    calls are. `control` None: the control plane is left out. Raises DependencyUnavailable."""
    database, root, org_id = meter.database, snapshot.root_org_id, snapshot.org_id
    found = await _rolls(database, root)
    found += await _valkey(meter, snapshot)
    found += await _overdue(meter, root)
    if control is not None:
        found += await _control_plane(database, org_id, control)
    if report is not None:
        found += await _provider_calls(database, org_id, report)
        found += await _provider_totals(database, org_id, report)
    return found


async def _rolls(database: Database, root: str) -> list[Difference]:
    async with database.system_tx(CHECK) as cursor:
        await cursor.execute(statement("hold_roll_cursor"))
        position = await cursor.fetchone()
        assert position is not None
        await cursor.execute(statement("compare_rolls"), {**position, "root": root})
        rows = await cursor.fetchall()
    return [
        Difference(Book.ROLLS, row["account"], row["ledger_nanousd"], row["rolled_nanousd"])
        for row in rows
    ]


async def _valkey(meter: Meter, snapshot: Snapshot) -> list[Difference]:
    seen = await _look(meter, snapshot)
    for _ in range(_LOOKS - 1):
        if not seen:
            return []
        await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
        again = await _look(meter, snapshot)
        seen = [difference for difference in seen if difference in again]
    return seen


async def _look(meter: Meter, snapshot: Snapshot) -> list[Difference]:
    """Differences of this moment; a call that begins or ends meanwhile makes some."""
    now = meter.database.clock.now()
    at = int(now.timestamp())
    installation = await read_installation(meter.database, snapshot.root_org_id, 0, {})
    # The tree's own accounts are looked at where nothing was spent on them, too.
    shown = placed_slots(plan_levels(snapshot, None, None, now), at * 1000)
    sums = _sums(installation, shown)
    differences: list[Difference] = []
    for levels in _questions(sums, at):
        spend = await meter.store.spend(snapshot.root_org_id, levels)
        for there in spend.periods:
            account = (there.level_kind, there.level_id, there.period, there.period_id)
            differences += _compared(
                account, sums[account], there.settled_nanousd, there.held_nanousd
            )
    return differences


def _sums(installation: Installation, shown: Iterable[Slot]) -> dict[_Account, _Sum]:
    sums = {_account(slot): _Sum(slot.period_end_unix) for slot in shown}
    for amount in installation.settled:
        place = sums.setdefault(_account(amount.slot), _Sum(amount.slot.period_end_unix))
        place.settled += amount.nanousd
    for hold in installation.holds:
        if hold.estimated:
            continue  # it is settled, and holds nothing any more
        for slot in hold.slots:
            sums.setdefault(_account(slot), _Sum(slot.period_end_unix)).held += hold.nanousd
    return sums


def _account(slot: Slot) -> _Account:
    return slot.kind, slot.id, slot.period, slot.period_id


def _questions(sums: dict[_Account, _Sum], at_unix: int) -> Iterator[tuple[Level, ...]]:
    """The accounts whose periods are not over, as the store is asked for them. Of two periods of
    one name the first to end is current; how far back it began makes no difference."""
    current: dict[tuple[str, str, str], tuple[int, str]] = {}
    for (kind, holder, period, period_id), total in sums.items():
        if total.end_unix > at_unix:
            key, candidate = (kind, holder, period), (total.end_unix, period_id)
            current[key] = min(candidate, current.get(key, candidate))
    periods: dict[tuple[str, str], list[Period]] = {}
    for (kind, holder, name), (end_unix, period_id) in sorted(current.items()):
        periods.setdefault((kind, holder), []).append(Period(name, period_id, 0, end_unix))
    levels = [Level(kind, holder, periods=tuple(of)) for (kind, holder), of in periods.items()]
    for first in range(0, len(levels), _LEVELS_A_QUESTION):
        yield tuple(levels[first : first + _LEVELS_A_QUESTION])


def _compared(account: _Account, ours: _Sum, settled: int, held: int) -> Iterator[Difference]:
    kind, holder, _, period_id = account
    name = f"{kind} {holder} {period_id}"
    if ours.settled != settled:
        yield Difference(Book.VALKEY_SETTLED, name, ours.settled, settled)
    # A hold whose intent is not committed yet, or never will be, is the sweeper's; too little is
    # what would let calls pass a cap.
    if held < ours.held:
        yield Difference(Book.VALKEY_HELD, name, ours.held, held)


async def _overdue(meter: Meter, root: str) -> list[Difference]:
    before = meter.database.clock.now() - meter.times.grace
    async with meter.database.system_tx(CHECK) as cursor:
        await cursor.execute(statement("overdue_of_root"), {"root": root, "before": before})
        rows = await cursor.fetchall()
    return [
        Difference(Book.OUTCOMES, f"call {row['intent_id']} of {row['org_id']}", row["held"], 0)
        for row in rows
    ]


async def _control_plane(database: Database, org_id: str, control: Reporter) -> list[Difference]:
    found: list[Difference] = []
    for look in range(_LOOKS):
        if look:
            await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
        found = await _look_up(database, org_id, control)
        if not found:
            break
    return found


async def _look_up(database: Database, org_id: str, control: Reporter) -> list[Difference]:
    acknowledged = {org.org_id: org for org in (await control.acknowledged_usage()).orgs}
    known = await known_usage(database)
    async with database.system_tx(CHECK) as cursor:
        await cursor.execute(statement("read_unshipped"), {"org_id": org_id})
        waiting = await cursor.fetchone()
    assert waiting is not None
    nothing = OrgUsage(org_id=org_id, events=0, nanousd=0)
    here, there = known.get(org_id, nothing), acknowledged.get(org_id, nothing)
    events, nanousd = here.events - waiting["events"], here.nanousd - waiting["nanousd"]
    if (events, nanousd) == (there.events, there.nanousd):
        return []
    subject = f"{events} events of {org_id} here, {there.events} there"
    return [Difference(Book.CONTROL_PLANE, subject, nanousd, there.nanousd)]


async def _provider_calls(
    database: Database, org_id: str, report: ProviderReport
) -> list[Difference]:
    async with database.system_tx(CHECK) as cursor:
        await cursor.execute(
            statement("read_costs"), {"org_id": org_id, "intent_ids": sorted(report.calls)}
        )
        ours = {row["intent_id"]: row for row in await cursor.fetchall()}
    differences = []
    for intent_id, reported in sorted(report.calls.items()):
        row = ours.get(intent_id)
        cost = row["cost_nanousd"] if row else 0
        estimated = row is not None and row["stage"] == "estimated"
        # An estimate that is right by chance is an estimate still.
        if cost != reported.cost_nanousd or estimated:
            book = Book.PROVIDER_CALL if estimated else Book.PROVIDER
            subject = str(intent_id) if row else f"{intent_id}, which is not known here"
            differences.append(Difference(book, subject, cost, reported.cost_nanousd))
    return differences


async def _provider_totals(
    database: Database, org_id: str, report: ProviderReport
) -> list[Difference]:
    if not report.totals:
        return []
    days = sorted({day for day, _ in report.totals})
    async with database.system_tx(CHECK) as cursor:
        await cursor.execute(
            statement("read_daily_costs"),
            {"org_id": org_id, "first_day": days[0], "last_day": days[-1]},
        )
        ours = {(row["day"], row["model"]): row["nanousd"] for row in await cursor.fetchall()}
    keys = sorted({*report.totals, *(key for key in ours if key[0] in days)})
    return [
        Difference(Book.PROVIDER, f"{day} {model}", ours.get((day, model), 0), reported)
        for day, model in keys
        if ours.get((day, model), 0) != (reported := report.totals.get((day, model), 0))
    ]
