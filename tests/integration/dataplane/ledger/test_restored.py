"""A plane whose database was restored from an older backup serves nothing until it is whole."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from uuid import UUID

import psycopg
import pytest

from tenantplane.core.apis.events import (
    BatchAck,
    OrgUsage,
    PlaneUsage,
    UsageBatch,
    UsageEvent,
)
from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.errors import DependencyUnavailable, NotFound, TenantplaneError
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.adoption import Adopted, adopt
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.rolling import Roller
from tenantplane.dataplane.ledger.shipper import Fields, Shipped, Shipper
from tenantplane.dataplane.ledger.sweeper import Sweeper
from tenantplane.dataplane.ledger.watermark import BEHIND, NOT_ENROLLED, Verdict, Watermark
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant

PAGE = 2


class ControlPlane:
    """Keeps what it gets by id and says how much that is; refuses what has other content."""

    def __init__(self) -> None:
        self.events: dict[UUID, UsageEvent] = {}
        self.trouble: TenantplaneError | None = None

    async def send_usage(self, events: Sequence[Fields]) -> BatchAck:
        batch = UsageBatch.model_validate({"events": events})
        new = [e for e in batch.events if e.event_id not in self.events]
        known = [e for e in batch.events if e.event_id in self.events]
        assert all(self.events[e.event_id] == e for e in known), "an event never changes"
        self.events |= {e.event_id: e for e in new}
        return BatchAck(accepted=len(new), duplicate=len(known))

    async def send_audit(self, commitments: Sequence[Fields]) -> BatchAck:
        return BatchAck(accepted=len(commitments), duplicate=0)

    async def acknowledged_usage(self) -> PlaneUsage:
        if self.trouble is not None:
            raise self.trouble
        by_org: dict[str, list[int]] = {}
        for event in self.events.values():
            by_org.setdefault(event.org_id, []).append(event.delta_nanousd)
        return PlaneUsage(
            orgs=tuple(
                OrgUsage(org_id=org, events=len(of), nanousd=sum(of)) for org, of in by_org.items()
            )
        )

    async def reported_usage(self, org_id: str, after: UUID) -> UsageBatch:
        events = [e for e in self.events.values() if e.org_id == org_id and e.event_id > after]
        return UsageBatch(events=tuple(sorted(events, key=lambda e: e.event_id)[:PAGE]))


# What a backup of that moment does not have: rows of later transactions.
_RESTORE = (
    "SET session_replication_role = replica",
    "DELETE FROM dataplane.audit_record WHERE xid >= %(mark)s::text::xid8",
    "DELETE FROM dataplane.outcome WHERE xid >= %(mark)s::text::xid8",
    "UPDATE dataplane.intent i SET stage = NULL, cost_nanousd = 0 WHERE NOT EXISTS"
    " (SELECT FROM dataplane.outcome o WHERE o.intent_id = i.intent_id)",
    "DELETE FROM dataplane.intent WHERE made_at >= %(made_at)s::text::timestamptz",
    "UPDATE dataplane.ship_cursor SET xid = %(mark)s::text::xid8",
)
_MARK = "SELECT pg_current_xact_id()::text AS mark, clock_timestamp()::text AS made_at"


async def spend(ledger: Ledger, org: str, cost: int) -> None:
    call = await ledger.meter.open(a_tenant(org), capped(org), a_call(1000))
    await call.complete(Usage(2, 3, NanoUSD(cost)), None)


def capped(org: str) -> Snapshot:
    return a_snapshot(org, hard_cap_nanousd=10_000)


async def keep_snapshot(ledger: Ledger, org: str) -> None:
    payload = base64.urlsafe_b64encode(capped(org).model_dump_json().encode()).decode().rstrip("=")
    async with await psycopg.AsyncConnection.connect(ledger.provisioned.owner_dsn) as owner:
        await owner.execute(
            "INSERT INTO dataplane.snapshot (org_id, version, jws) VALUES (%s, 1, %s)",
            (org, f"h.{payload}.s"),
        )


@pytest.fixture
async def restored(
    make_ledger: MakeLedger, postgres: EmbeddedPostgres, new_org: str
) -> tuple[Ledger, ControlPlane]:
    """Three calls before the backup, one across it and two after it: 30 + 400 + 5000 + 5000."""
    ledger, control = await make_ledger(), ControlPlane()
    await keep_snapshot(ledger, new_org)
    for _ in range(3):
        await spend(ledger, new_org, 10)
    await Roller(ledger.database).roll()
    across = await ledger.meter.open(a_tenant(new_org), capped(new_org), a_call(1000))
    (mark,) = await ledger.query(_MARK)
    await across.complete(Usage(2, 3, NanoUSD(400)), None)
    for _ in range(2):
        await spend(ledger, new_org, 900)
    assert (await Shipper(ledger.database, control).ship()).usage == 6
    watermark = Watermark(ledger.database, control)
    assert await watermark.compare() is Verdict.WHOLE
    watermark.require()

    dsn = postgres.admin_dsn(ledger.provisioned.bootstrapped.dbname)
    async with await psycopg.AsyncConnection.connect(dsn) as administrator:
        for statement in _RESTORE:
            await administrator.execute(statement, mark if "%" in statement else None)
    await ledger.meter.store.rebuild()
    return ledger, control


@pytest.mark.req("R32")
async def test_a_restored_plane_refuses_until_it_has_adopted_what_is_missing(
    restored: tuple[Ledger, ControlPlane], new_org: str
) -> None:
    ledger, control = restored
    assert await ledger.in_valkey(capped(new_org)) == (30, 1000)
    watermark = Watermark(ledger.database, control)
    assert await watermark.compare() is Verdict.BEHIND
    with pytest.raises(DependencyUnavailable) as refused:
        watermark.require()
    assert (refused.value.error_code, refused.value.status) == (BEHIND, 503)
    assert new_org not in str(refused.value)

    assert await adopt(ledger.meter, control) == Adopted(orgs=1, events=3, nanousd=2200)
    assert await watermark.compare() is Verdict.WHOLE
    watermark.require()
    assert await ledger.in_valkey(capped(new_org)) == (2230, 0)
    # What is shipped again is what it was: the control plane would refuse any other.
    before = dict(control.events)
    shipped = await Shipper(ledger.database, control).ship()
    assert (shipped.usage, shipped.set_aside) == (1, 0)
    assert control.events == before
    assert await adopt(ledger.meter, control) == Adopted()
    await Roller(ledger.database).roll()
    await ledger.meter.store.rebuild()
    assert await ledger.in_valkey(capped(new_org)) == (2230, 0)
    assert await watermark.compare() is Verdict.WHOLE


async def test_adoption_that_died_half_way_goes_on(
    restored: tuple[Ledger, ControlPlane], new_org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, control = restored
    pages = control.reported_usage
    asked = 0

    async def dies(org_id: str, after: UUID) -> UsageBatch:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise DependencyUnavailable("the process ended here")
        return await pages(org_id, after)

    monkeypatch.setattr(control, "reported_usage", dies)
    with pytest.raises(DependencyUnavailable):
        await adopt(ledger.meter, control)
    monkeypatch.setattr(control, "reported_usage", pages)
    await adopt(ledger.meter, control)
    await ledger.meter.store.rebuild()
    assert await ledger.in_valkey(capped(new_org)) == (2230, 0)


async def test_the_sweeper_estimates_nothing_of_a_ledger_that_is_behind(
    restored: tuple[Ledger, ControlPlane], new_org: str
) -> None:
    """What looks open here has ended, and the control plane knows how."""
    ledger, control = restored
    watermark = Watermark(ledger.database, control)
    later = ledger.database.clock.now().replace(year=2100)
    sweeper = Sweeper(
        ledger.meter, lambda: (new_org,), now=lambda: later, require=watermark.require
    )
    with pytest.raises(DependencyUnavailable):
        await sweeper.sweep()  # not compared yet
    await watermark.compare()
    with pytest.raises(DependencyUnavailable):
        await sweeper.sweep()
    assert await ledger.settled_in_postgres(new_org) == 30
    await adopt(ledger.meter, control)
    await watermark.compare()
    assert (await sweeper.sweep()).estimated == 0


@pytest.mark.req("R86")
@pytest.mark.parametrize(
    "trouble",
    [lambda: DependencyUnavailable("away"), lambda: NotFound("an old one has no such route")],
    ids=["away", "old"],
)
async def test_a_control_plane_that_says_nothing_stops_nobody_and_is_shown(
    make_ledger: MakeLedger, new_org: str, trouble: Callable[[], TenantplaneError]
) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    control.trouble = trouble()
    watermark = Watermark(ledger.database, control)
    with pytest.raises(DependencyUnavailable):
        watermark.require()  # not asked yet
    assert await watermark.compare() is Verdict.UNHEARD
    watermark.require()
    assert watermark.note() is not None


async def test_silence_makes_a_ledger_that_is_behind_no_better(
    restored: tuple[Ledger, ControlPlane],
) -> None:
    ledger, control = restored
    watermark = Watermark(ledger.database, control)
    await watermark.compare()
    control.trouble = DependencyUnavailable("away")
    assert await watermark.compare() is Verdict.BEHIND


async def test_a_plane_that_has_not_enrolled_yet_is_not_compared(make_ledger: MakeLedger) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    control.trouble = DependencyUnavailable("not yet", code=NOT_ENROLLED)
    watermark = Watermark(ledger.database, control)
    with pytest.raises(DependencyUnavailable):
        await watermark.compare()
    assert watermark.verdict is Verdict.UNKNOWN


async def test_calls_on_their_way_up_are_no_difference(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    watermark = Watermark(ledger.database, control)
    for _ in range(2):
        await spend(ledger, new_org, 10)
        assert await watermark.compare() is Verdict.WHOLE
        assert await Shipper(ledger.database, control).ship() == Shipped(usage=1, audit=1)
        assert await watermark.compare() is Verdict.WHOLE
