"""The filters of the data plane's own statements, alone: policies are open, and a twin org has rows
of the very same ids. Each wrapper answers as if the twin were not there, and leaves its rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from langchain_core.runnables import RunnableConfig
from langgraph.store.base import GetOp, ListNamespacesOp, PutOp, SearchOp

from tenantplane.core.apis.events import PlaneUsage, UsageEvent
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.errors import TenantplaneError
from tenantplane.core.money import NanoUSD
from tenantplane.core.tenancy import namespaced
from tenantplane.core.valkey.requests import Slot
from tenantplane.dataplane.api import audit_records
from tenantplane.dataplane.ledger import adoption, check
from tenantplane.dataplane.ledger.excess import Excesses
from tenantplane.dataplane.ledger.installation import read_installation
from tenantplane.dataplane.ledger.provider_report import ProviderReport, ReportedCall
from tenantplane.dataplane.ledger.repair import _roll_anew
from tenantplane.dataplane.ledger.rolling import Roller
from tenantplane.dataplane.ledger.sweeper import Sweeper
from tenantplane.dataplane.ledger.times import LedgerTimes
from tenantplane.dataplane.ledger.watermark import known_usage
from tenantplane.dataplane.runtime.checkpoint_query import CheckpointQuery
from tenantplane.dataplane.runtime.threads import Threads
from tenantplane.dataplane.sources.sql.administration import (
    list_sources,
    load_rows,
)
from tenantplane.dataplane.sources.sql.sources import SqlSources
from tenantplane.dataplane.sources.vectors.records import NewChunk
from tenantplane.dataplane.tools.notes import ReadArguments, read_notes
from tests.fixtures.postgres import ProvisionDatabase
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation.twin_plane import (
    CUSTOMERS,
    OTHER_SPACE,
    REQUEST,
    SPACE,
    TENANT,
    Plane,
    twin_plane,
)
from tests.proofs.isolation.twins import ORG, TWIN

pytestmark = pytest.mark.proof


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def plane(
    provision_database: ProvisionDatabase, postgres: EmbeddedPostgres
) -> AsyncIterator[Plane]:
    async with twin_plane(provision_database, postgres) as made:
        yield made


async def _claim(plane: Plane) -> None:
    await Threads(plane.database).claim(TENANT, plane.threads[0], plane.run_id, 60)


async def _claim_by_another(plane: Plane) -> None:
    await Threads(plane.database).claim(TENANT, plane.threads[0], UUID(int=7), 60)


async def _renew(plane: Plane) -> None:
    await Threads(plane.database).renew(TENANT, plane.threads[0], plane.run_id, 60)


async def _release(plane: Plane) -> None:
    await Threads(plane.database).release(TENANT, plane.threads[0], plane.run_id)


async def _listed(plane: Plane, config: RunnableConfig | None, **search: Any) -> object:
    return [_told(item) async for item in plane.saver().alist(config, **search)]


def _told(item: Any) -> object:
    if item is None:
        return None
    return item.config, item.checkpoint, item.metadata, item.pending_writes


async def _get(plane: Plane) -> object:
    return _told(await plane.saver().aget_tuple(plane.thread()))


async def _get_by_id(plane: Plane) -> object:
    return _told(await plane.saver().aget_tuple(plane.checkpoints[1]))


async def _copy(plane: Plane) -> object:
    target = str(UUID(int=9))
    await plane.saver().acopy_thread(plane.threads[0], target)
    config: RunnableConfig = {"configurable": {"thread_id": target, "checkpoint_ns": ""}}
    return _told(await plane.saver().aget_tuple(config))


async def _after(plane: Plane, change: Awaitable[object]) -> object:
    await change
    return await _listed(plane, None)


async def _search_store(plane: Plane, op: Any) -> object:
    (found,) = await plane.store().abatch([op])
    if isinstance(found, list):
        return sorted(str(getattr(item, "value", item)) for item in found)
    return getattr(found, "value", found)


async def _put_store(plane: Plane, value: dict[str, Any] | None) -> object:
    await plane.store().abatch([PutOp(("safe", "place"), "one", value)])
    return await _search_store(plane, SearchOp(("safe",)))


async def _records(plane: Plane, query: Any, **wanted: Any) -> object:
    reader = audit_records._Records(plane.database, plane.keys())
    return await reader.read(TENANT, query, **wanted)


async def _kept_answer(plane: Plane) -> object:
    return await plane.requests().response(REQUEST, plane.run_id)


async def _key(plane: Plane) -> object:
    """Whether it opens what the org has; a fresh one where it has none."""
    return repr(await plane.keys().of(ORG))


async def _found(plane: Plane, mode: Any) -> object:
    return await plane.library().search("safe", [1.0, 0.0, 0.5], SPACE, 5, mode)


async def _documents(plane: Plane) -> object:
    return [(d.name, d.chunks, d.status) for d in await plane.library().documents(None, 10)]


async def _put_document(plane: Plane) -> object:
    chunk = NewChunk("other words", [0.0, 1.0, 0.0], 0)
    put = await plane.library().put("a.md", "text/markdown", "2" * 64, 9, "u", SPACE, [chunk])
    is_the_old = put.document_id == plane.document_id
    return put.name, put.chunks, put.status, is_the_old, await _documents(plane)


async def _delete_document(plane: Plane) -> object:
    return await plane.library().delete(plane.document_id), await _documents(plane)


async def _delete_documents(plane: Plane) -> object:
    return await plane.library().delete_all(), await _documents(plane)


async def _stale(plane: Plane) -> object:
    found = await plane.library().stale(OTHER_SPACE, 10)
    return sorted((item.document.name, item.version, item.texts) for item in found)


async def _re_embed(plane: Plane) -> object:
    stale = await plane.library().stale(OTHER_SPACE, 10)
    version = next((s.version for s in stale if s.document.document_id == plane.document_id), 1)
    vectors = [[0.0, 1.0, float(n)] for n in range(3)]
    done = await plane.library().re_embed(
        plane.document_id, OTHER_SPACE, vectors, of_version=version
    )
    return done, await _documents(plane), await _stale(plane)


async def _installed(plane: Plane) -> object:
    """What a new epoch of the root begins with: settled amounts and open holds."""
    found = await read_installation(plane.database, ORG, 1, {})
    return sorted(map(repr, found.settled)), sorted(map(repr, found.holds))


async def _installed_unrolled(plane: Plane) -> object:
    """The same where all of it came after the last roll, as far as its cursor says."""
    (rolled,) = await plane.twins.look("SELECT rolled_before::text FROM dataplane.roll_cursor")
    await plane.twins.look(_FORGET_ROLLS[0])
    try:
        return await _installed(plane)
    finally:
        await plane.twins.look(
            "UPDATE dataplane.roll_cursor SET rolled_before = %s::text::xid8 RETURNING 1",
            rolled["rolled_before"],
        )


async def _known_usage(plane: Plane) -> object:
    return (await known_usage(plane.database)).get(ORG)


async def _excess(plane: Plane) -> object:
    excesses = Excesses(plane.database)
    await excesses.load(ORG)
    return excesses._newest


async def _books(plane: Plane) -> object:
    """All that a check reads of an org, and of its tree."""
    report = ProviderReport({plane.intent_id: ReportedCall(NanoUSD(1))})
    totals = ProviderReport(totals={(plane.database.clock.now().date(), "m"): NanoUSD(1)})
    meter: Any = SimpleNamespace(
        database=plane.database, times=LedgerTimes(grace=-timedelta(hours=1))
    )
    return [
        str(difference)
        for found in (
            await check._rolls(plane.database, ORG),
            await check._overdue(meter, ORG),
            await check._provider_calls(plane.database, ORG, report),
            await check._provider_totals(plane.database, ORG, totals),
            await check._look_up(plane.database, ORG, _NothingReported()),
        )
        for difference in found
    ]


class _NothingReported:
    async def acknowledged_usage(self) -> PlaneUsage:
        return PlaneUsage(orgs=())


async def _rolled_anew(plane: Plane) -> object:
    meter: Any = SimpleNamespace(database=plane.database)
    await _roll_anew(meter, ORG)
    return await _installed(plane)


async def _told_last(plane: Plane) -> object:
    return (await adoption.stored_snapshot(plane.database, ORG)).org_id


async def _adjusted(plane: Plane) -> object:
    """An event of a call that this database lost; the twin's has the same id."""
    (known,) = await plane.twins.look("SELECT event_id FROM kept.dataplane_outcome LIMIT 1")
    now = plane.database.clock.now()
    event = UsageEvent(
        event_id=known["event_id"],
        org_id=ORG,
        root_org_id=ORG,
        user_id="u",
        run_id=plane.run_id,
        call_no=0,
        intent_id=plane.intent_id,
        stage="actual",
        kind="model",
        resource="m",
        input_tokens=1,
        output_tokens=1,
        cost_nanousd=5,
        delta_nanousd=5,
        price_book_version=1,
        occurred_at=now,
    )
    unknown = await adoption._unknown(plane.database, ORG, [event])
    intent = await adoption._intent(plane.database, event)
    await adoption._adjust(
        plane.database, event, (Slot("org", ORG, "month", "2100-01", 4_102_444_800),)
    )
    again = await adoption._unknown(plane.database, ORG, [event])
    (lost,) = await plane.twins.look("SELECT event_id FROM kept.dataplane_adjustment")
    adopted = event.model_copy(update={"event_id": lost["event_id"]})
    once_more = await adoption._unknown(plane.database, ORG, [adopted])
    return len(unknown), intent, len(again), len(once_more), await _installed(plane)


@dataclass
class _Holds:
    """In Valkey's place: notes what the sweeper does with a hold."""

    done: list[object] = field(default_factory=list)

    async def release(self, root: str, hold_id: str, *, expired_only: bool) -> None:
        self.done.append(("released", root, hold_id, expired_only))

    async def settle(self, root: str, hold_id: str, *amounts: object) -> None:
        self.done.append(("settled", root, hold_id, *amounts))


async def _swept(plane: Plane) -> object:
    """The call's hold has expired: it is settled with its outcome where there is one."""
    holds = _Holds()
    meter: Any = SimpleNamespace(database=plane.database, store=holds, times=LedgerTimes())
    later = plane.database.clock.now() + timedelta(hours=1)
    sweeper = Sweeper(meter, lambda: (ORG,), now=lambda: later)
    return await sweeper._end_holds(ORG, [plane.intent_id]), holds.done


async def _large_thread(plane: Plane) -> object:
    """As it is read where it is too large to be read together with those of others."""
    query = CheckpointQuery(org_id=ORG, thread_id=namespaced(ORG, plane.threads[0]), ns="")
    return sorted(map(repr, await query.rows(plane.database)))


async def _asked(plane: Plane, source: str, query: str) -> object:
    return sorted((await SqlSources(plane.database).query(ORG, source, query)).rows)


async def _sources(plane: Plane) -> object:
    return sorted(await SqlSources(plane.database).of(ORG))


async def _loaded(plane: Plane) -> object:
    return await load_rows(plane.owner_dsn, CUSTOMERS, "customers", ["name", "Eve"], replace=False)


_FORGET_ROLLS: Final = (
    "UPDATE dataplane.roll_cursor SET rolled_before = '0' RETURNING 1",
    "DELETE FROM dataplane.spend_roll RETURNING 1",
    "DELETE FROM dataplane.usage_roll RETURNING 1",
)
Verb = Callable[[Plane], Awaitable[object]]
# By the folder of the code that they drive.
VERBS: Final[dict[str, Verb]] = {
    "runtime claim": _claim,
    "runtime claim by another run": _claim_by_another,
    "runtime renew": _renew,
    "runtime release": _release,
    "runtime get": _get,
    "runtime get by id": _get_by_id,
    "runtime get of a large thread": _large_thread,
    "runtime list": lambda p: _listed(p, None),
    "runtime list thread": lambda p: _listed(p, p.thread()),
    "runtime list before": lambda p: _listed(p, None, before=p.checkpoints[2], limit=1),
    "runtime delete thread": lambda p: _after(p, p.saver().adelete_thread(p.threads[0])),
    "runtime delete runs": lambda p: _after(p, p.saver().adelete_for_runs([p.graph_run])),
    "runtime copy": _copy,
    "runtime prune": lambda p: _after(p, p.saver().aprune([p.threads[0]])),
    "runtime prune all": lambda p: _after(p, p.saver().aprune([p.threads[0]], strategy="delete")),
    "runtime keep newest": lambda p: _after(p, p.saver().akeep_newest(p.threads[0], 2)),
    "runtime store get": lambda p: _search_store(p, GetOp(("safe", "place"), "one")),
    "runtime store search": lambda p: _search_store(p, SearchOp(("safe",))),
    "runtime store namespaces": lambda p: _search_store(p, ListNamespacesOp()),
    "runtime store put": lambda p: _put_store(p, {"is": "three"}),
    "runtime store delete": lambda p: _put_store(p, None),
    "tools notes": lambda p: read_notes(p.context(), ReadArguments(limit=50)),
    "api record": lambda p: _records(p, audit_records._READ_ONE, record_id=p.record_id),
    "api records of a run": lambda p: _records(
        p, audit_records._READ_RUN, run_id=p.run_id, limit=10
    ),
    "ledger key": _key,
    "ledger kept answer": _kept_answer,
    "ledger installation": _installed,
    "ledger installation after a roll": _installed_unrolled,
    "ledger sweep": _swept,
    "ledger usage": _known_usage,
    "ledger roll anew": _rolled_anew,
    "ledger excess": _excess,
    "ledger check": _books,
    "ledger adoption": _adjusted,
    "ledger snapshot": _told_last,
    "sources search by vector": lambda p: _found(p, "vector"),
    "sources search by text": lambda p: _found(p, "text"),
    "sources search": lambda p: _found(p, "hybrid"),
    "sources get": lambda p: p.library().get(p.document_id),
    "sources list": _documents,
    "sources put": _put_document,
    "sources delete": _delete_document,
    "sources delete all": _delete_documents,
    "sources stale": _stale,
    "sources re-embed": _re_embed,
    "sources sql of an org": _sources,
    "sources sql administration": lambda p: list_sources(p.owner_dsn, ORG),
    "sources sql load": _loaded,
    "sources sql rows": lambda p: _asked(p, "crm", "SELECT * FROM customers"),
    "sources sql usage": lambda p: _asked(p, "usage", "SELECT * FROM calls"),
}


async def _tried(plane: Plane, verb: Verb) -> object:
    try:
        async with asyncio.timeout(20):
            return await verb(plane)
    except (TenantplaneError, psycopg.Error) as refused:
        return f"{type(refused).__name__}: {refused}"


@pytest.mark.req("R1", "R5", "R6")
@pytest.mark.fault("F24")
@pytest.mark.parametrize("name", VERBS)
async def test_a_wrapper_answers_as_if_the_twin_were_not_there(
    plane: Plane, name: str, proof_cases: ProofCases
) -> None:
    verb = VERBS[name]
    await plane.twins.weaken()
    for own, own_first in ((True, False), (True, True), (False, False)):
        await plane.twins.lay_down(own=own, twin=False)
        alone = await _tried(plane, verb)
        left = await plane.twins.rows_of(ORG)

        await plane.twins.lay_down(own=own, twin=True, own_first=own_first)
        theirs = await plane.twins.rows_of(TWIN)
        assert await _tried(plane, verb) == alone
        assert await plane.twins.rows_of(TWIN) == theirs
        mine = await plane.twins.rows_of(ORG)
        assert {t: len(rows) for t, rows in mine.items()} == {t: len(r) for t, r in left.items()}
        proof_cases.add(3)


@pytest.mark.req("R1")
async def test_what_a_twin_was_refused_is_not_missing_from_the_orgs_books(
    plane: Plane, proof_cases: ProofCases
) -> None:
    """Every event was shipped; the twin's of the same id was refused, and this org's was not."""
    await plane.twins.weaken()
    await plane.twins.lay_down(own=True, twin=True)
    await plane.twins.look(
        "UPDATE dataplane.ship_cursor SET xid = '9223372036854775807' WHERE stream = 'usage'"
        " RETURNING 1"
    )
    try:
        books = await _books(plane)
        await plane.twins.look(
            "INSERT INTO dataplane.shipping_refused (org_id, stream, row_id, reason)"
            " SELECT org_id, 'usage', event_id, 'of_another_plane' FROM dataplane.outcome"
            "  WHERE org_id = %s RETURNING 1",
            TWIN,
        )
        assert await _books(plane) == books
    finally:  # the cursor is the plane's, and no org's: no `lay_down` brings it back
        await plane.twins.look(
            "UPDATE dataplane.ship_cursor SET xid = '0' WHERE stream = 'usage' RETURNING 1"
        )
    proof_cases.add(1)


@pytest.mark.req("R1", "R6")
async def test_a_roll_adds_nothing_of_a_twin_with_the_same_ids(
    plane: Plane, proof_cases: ProofCases
) -> None:
    """It is for all orgs, so the twin has sums of its own afterwards."""
    rolled = []
    for twin in (False, True):
        await plane.twins.lay_down(own=True, twin=twin)
        for forget in _FORGET_ROLLS:
            await plane.twins.look(forget)
        await Roller(plane.database).roll()
        rows = await plane.twins.rows_of(ORG)
        rolled.append((rows["dataplane.spend_roll"], rows["dataplane.usage_roll"]))
    assert rolled[0] == rolled[1]
    assert all(rolled[0])
    proof_cases.add(2)
