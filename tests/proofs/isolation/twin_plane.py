"""The wrappers of one org of a data plane, and an org's rows in every table that they touch."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.store.base import PutOp

from tenantplane.core.apis.events import Stage
from tenantplane.core.audit.record import RecordToSeal, seal
from tenantplane.core.db import doctor
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.pool import Database
from tenantplane.core.ids import new_id
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.core.money import NanoUSD
from tenantplane.core.tenancy import TenantContext, namespaced
from tenantplane.core.valkey.requests import Slot
from tenantplane.dataplane.ledger.adoption import ADOPT
from tenantplane.dataplane.ledger.call_ids import new_call_id
from tenantplane.dataplane.ledger.journal import Journal
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.ledger.requests import Claim, RequestJournal, RequestKey
from tenantplane.dataplane.ledger.rolling import Roller
from tenantplane.dataplane.ledger.rows import IntentRow, OutcomeRow, slots_to_json
from tenantplane.dataplane.ledger.statements import statement
from tenantplane.dataplane.runtime.memory import Memory
from tenantplane.dataplane.runtime.threads import Threads
from tenantplane.dataplane.sources.sql.administration import (
    SourceName,
    create_source,
    load_rows,
)
from tenantplane.dataplane.sources.sql.definition import Column, Definition, Table
from tenantplane.dataplane.sources.vectors.library import Library
from tenantplane.dataplane.sources.vectors.records import EmbeddingSpace, NewChunk
from tenantplane.dataplane.tools.definitions import ToolContext
from tenantplane.dataplane.tools.notes import WriteArguments, write_note
from tests.fixtures.ledger import MIGRATIONS, a_snapshot
from tests.fixtures.postgres import ProvisionDatabase
from tests.proofs.isolation.twins import ORG, TwinDatabase

TENANT: Final = TenantContext(ORG, ORG, "user:u", "u", "pro", "local", roles=frozenset({"admin"}))
SPACE: Final = EmbeddingSpace("embed-local", 3)
OTHER_SPACE: Final = EmbeddingSpace("embed-other", 3)
CUSTOMERS: Final = SourceName(ORG, "crm")
_CUSTOMERS: Final = Definition(
    description=f"Customers of {ORG}",
    tables=(Table(name="customers", columns=(Column(name="name", type="text"),)),),
)
REQUEST: Final = RequestKey(ORG, "user:u", "/v1/chat/completions", "key")
_SOON: Final = timedelta(minutes=5)
_HOLD: Final = 1000  # nano-dollars


@dataclass
class Plane:
    """The wrappers of one org, and ids that the set-up made."""

    database: Database
    twins: TwinDatabase
    master_key: bytes
    owner_dsn: str = field(repr=False)
    threads: list[str] = field(default_factory=list)
    run_id: UUID = field(default_factory=new_id)
    graph_run: str = field(default_factory=lambda: str(new_id()))
    record_id: UUID = field(default_factory=new_id)
    document_id: UUID = field(default_factory=new_id)
    intent_id: UUID = field(default_factory=new_id)
    checkpoints: list[RunnableConfig] = field(default_factory=list)
    memory: Memory | None = None

    def keys(self) -> DataKeys:
        """Fresh: what another verb opened is not remembered."""
        return DataKeys(self.database, LocalKeyProvider(self.master_key))

    def requests(self) -> RequestJournal:
        return RequestJournal(self.database, lease_seconds=600, keep_seconds=600)

    def context(self) -> ToolContext:
        stored = namespaced(ORG, self.threads[0])
        return ToolContext(TENANT, stored, self.database, None)  # type: ignore[arg-type]

    def library(self) -> Library:
        return Library(self.database, ORG)

    def saver(self) -> Any:
        assert self.memory is not None
        return self.memory.saver(ORG)

    def store(self) -> Any:
        assert self.memory is not None
        return self.memory.store(ORG)

    def thread(self, number: int = 0) -> RunnableConfig:
        return {"configurable": {"thread_id": self.threads[number], "checkpoint_ns": ""}}


async def _set_up(plane: Plane) -> None:
    threads = Threads(plane.database)
    for _ in range(2):
        plane.threads.append(await threads.claim_new(TENANT, plane.run_id, 600))
    await write_note(plane.context(), WriteArguments(text="the safe is open"))
    await _remember(plane)
    plane.intent_id = await _call(plane, 0, _Ended("actual", NanoUSD(5), plane.record_id))
    # What is rolled, and what came after it: a call that is open, and one that cost more than was
    # held for it, as far as is known.
    await Roller(plane.database).roll()
    await _call(plane, 1, None)
    await _call(plane, 2, _Ended("estimated", _HOLD + 1, new_id()))
    await _adjust(plane)
    await _snapshot(plane)
    await _request(plane)
    chunks = [NewChunk(f"chunk {n} of the safe", [1.0, n, 0.5], n) for n in range(3)]
    made = await plane.library().put("a.md", "text/markdown", "0" * 64, 9, "u", SPACE, chunks)
    await plane.library().put("b.md", "text/markdown", "1" * 64, 9, "u", SPACE, chunks[:1])
    plane.document_id = made.document_id


async def _snapshot(plane: Plane) -> None:
    """As the plane stored it, once verified."""
    payload = base64.urlsafe_b64encode(a_snapshot(ORG).model_dump_json().encode()).decode()
    await plane.twins.look(
        "INSERT INTO dataplane.snapshot (org_id, version, jws) VALUES (%s, 1, %s) RETURNING 1",
        ORG,
        f"head.{payload.rstrip('=')}.signature",
    )


async def _request(plane: Plane) -> None:
    """One with an Idempotency-Key, and its answer."""
    requests, claim = plane.requests(), Claim(REQUEST, b"f" * 32, plane.run_id)
    await requests.start()
    try:
        await requests.claim(claim)
        await requests.keep(claim, b"sealed answer")
    finally:
        await requests.stop()


async def _remember(plane: Plane) -> None:
    for thread_number in range(2):
        config = plane.thread(thread_number)
        for step in range(3):
            version = f"{step + 1:032}.0"
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"messages": [f"state {step} " * 1000]}
            checkpoint["channel_versions"] = {"messages": version}
            config["metadata"] = {"run_id": plane.graph_run}
            metadata: Any = {"source": "loop", "step": step, "run_id": plane.graph_run}
            config = await plane.saver().aput(config, checkpoint, metadata, {"messages": version})
            await plane.saver().aput_writes(config, [("messages", f"write {step}")], "task")
            if thread_number == 0:
                plane.checkpoints.append(config)
    await plane.store().abatch(
        [PutOp(("safe", "place"), name, {"is": name}, ttl=60) for name in ("one", "two")]
    )


@dataclass(frozen=True)
class _Ended:
    """How a call ended."""

    stage: Stage
    cost_nanousd: int
    record_id: UUID


async def _call(plane: Plane, call_no: int, ended: _Ended | None) -> UUID:
    """A call in the ledger, with its record where it has ended."""
    (epoch,) = await plane.twins.look("SELECT epoch FROM dataplane.ledger_epoch")
    clock = plane.database.clock
    intent = IntentRow(
        org_id=ORG,
        intent_id=new_call_id(clock.unix()),
        root_org_id=ORG,
        run_id=plane.run_id,
        call_no=call_no,
        thread_id=None,
        user_id="u",
        key_id=None,
        kind="model",
        resource="assistant-1",
        hold_nanousd=NanoUSD(_HOLD),
        price_book_version=1,
        idempotency_key=None,
        epoch=epoch["epoch"],
        slots=(Slot("org", ORG, "month", "2100-01", 4_102_444_800),),
        request_ciphertext=b"-",
        commit_by=clock.now() + _SOON,
        deadline_at=clock.now() + _SOON,
    )
    journal = Journal(plane.database)
    await journal.start()
    try:
        assert await journal.intend(intent) == "ok"
        if ended is not None:
            outcome = await _outcome(plane, intent, ended)
            assert (await journal.conclude(outcome)).status == "ok"
    finally:
        await journal.stop()
    return intent.intent_id


async def _outcome(plane: Plane, intent: IntentRow, ended: _Ended) -> OutcomeRow:
    now = plane.database.clock.now()
    record = RecordToSeal(
        record_id=ended.record_id,
        org_id=ORG,
        user_id="u",
        run_id=plane.run_id,
        call_no=intent.call_no,
        kind="model",
        resource="assistant-1",
        occurred_at=now,
        status="completed",
    )
    sealed = seal(record, await plane.keys().of(ORG))
    return OutcomeRow(
        org_id=ORG,
        intent_id=intent.intent_id,
        stage=ended.stage,
        event_id=new_id(),
        record_id=ended.record_id,
        input_tokens=1,
        output_tokens=1,
        cost_nanousd=NanoUSD(ended.cost_nanousd),
        occurred_at=now,
        ciphertext=sealed.ciphertext,
        entry=sealed.entry,
    )


async def _adjust(plane: Plane) -> None:
    """As adopting an event of a call that this database lost."""
    month = Slot("org", ORG, "month", "2100-01", 4_102_444_800)
    async with plane.database.system_tx(ADOPT) as cursor:
        await cursor.execute(
            statement("adjust"),
            {
                "org_id": ORG,
                "event_id": new_id(),
                "root": ORG,
                "intent_id": new_id(),
                "slots": slots_to_json((month,)),
                "delta_nanousd": 7,
                "reason": "lost",
                "occurred_at": plane.database.clock.now(),
            },
        )


@asynccontextmanager
async def twin_plane(
    provision_database: ProvisionDatabase, postgres: EmbeddedPostgres
) -> AsyncIterator[Plane]:
    """A plane whose org's rows are kept, for a twin to have the like of."""
    provisioned = await provision_database("data", Path(MIGRATIONS))
    # Its tables are among those that twins have rows in.
    await create_source(provisioned.owner_dsn, CUSTOMERS, _CUSTOMERS)
    await load_rows(
        provisioned.owner_dsn, CUSTOMERS, "customers", ["name", "Ada", "Bob"], replace=False
    )
    twins = await TwinDatabase.prepare(postgres.admin_dsn(provisioned.bootstrapped.dbname))
    database = Database(provisioned.settings, name="data")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(doctor, "inspect", _finds_nothing)  # such a database is not served
            await database.open()
        made = Plane(database, twins, secrets.token_bytes(32), provisioned.owner_dsn)
        made.memory = Memory(database, made.keys())
        await made.memory.start()
        try:
            await _set_up(made)
            await twins.keep()
            yield made
        finally:
            await made.memory.stop()
    finally:
        await database.close()
        await twins.close()


async def _finds_nothing(_: object) -> list[Any]:
    return []
