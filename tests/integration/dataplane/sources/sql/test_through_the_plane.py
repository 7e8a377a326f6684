"""SQL sources through the running planes: entitled in a plan, asked by an agent over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tenantplane.dataplane.sources.sql.administration import (
    SourceName,
    create_source,
    drop_source,
    load_rows,
)
from tests.fixtures.dataplane import Peers
from tests.fixtures.sql_sources import a_definition

AGENT = "agent/assistant-1"


@dataclass(frozen=True)
class Asker:
    """A tenant with a source `crm` of its own; `word` is in all that it holds."""

    peers: Peers
    org_id: str
    key: str
    word: str

    async def asks(self, source: str, sql: str) -> str:
        cue = json.dumps({"source": source, "sql": sql})
        answer = await self.peers.data.chat(self.key, f"[[call:sql_query {cue}]]", model=AGENT)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def askers(data_plane: Peers) -> AsyncIterator[tuple[Asker, Asker]]:
    plan = await data_plane.control.plan(
        entitlements={
            "tools": ["sql"],
            "models": ["assistant-1"],
            "dataSources": ["usage", "crm"],
        }
    )
    owner = data_plane.data.provisioned.owner_dsn
    made = []
    for word in ("canary", "plain"):
        asker = Asker(data_plane, *await data_plane.tenant(plan), word)
        source = SourceName(asker.org_id, "crm")
        await create_source(owner, source, a_definition(word))
        rows = ["name,amount", f"{word}-1,1.50", f"{word}-2,2.50"]
        await load_rows(owner, source, f"{word}_customers", rows, replace=False)
        made.append(asker)
    yield made[0], made[1]
    for asker in made:
        # The suite that enumerates all tables may share this database.
        await drop_source(owner, SourceName(asker.org_id, "crm"))


@pytest.mark.req("R1", "R3")
async def test_an_agent_reads_its_own_orgs_source(askers: tuple[Asker, Asker]) -> None:
    for asker in askers:
        text = await asker.asks("crm", f"SELECT sum(amount), max(name) FROM {asker.word}_customers")
        assert f'4.00 | "{asker.word}-2"' in text
        usage = await asker.asks("usage", "SELECT DISTINCT name FROM calls")
        assert "sql_query" in usage


@pytest.mark.req("R3")
@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    "attack",
    [
        "SELECT * FROM canary_customers",
        "SELECT set_config('app.current_tenant', 'other', true)",
        "RESET ROLE",
        "SELECT 1; COMMIT; BEGIN",
        "SELECT query FROM pg_stat_activity",
        "SELECT pg_advisory_lock(1)",
        "SELECT * FROM pg_indexes",
        "CREATE TEMP TABLE calls (x int)",
        "COPY (SELECT 1) TO PROGRAM 'id'",
    ],
)
async def test_what_an_agent_injects_is_refused(askers: tuple[Asker, Asker], attack: str) -> None:
    _, intruder = askers
    for source in ("usage", "crm"):
        text = await intruder.asks(source, attack)
        assert "Error:" in text
        assert "canary-" not in text


@pytest.mark.req("R3")
async def test_a_source_that_the_plan_does_not_grant_is_not_there(data_plane: Peers) -> None:
    plan = await data_plane.control.plan(
        entitlements={"tools": ["sql"], "models": ["assistant-1"], "dataSources": ["documents"]}
    )
    org_id, key = await data_plane.tenant(plan)
    text = await Asker(data_plane, org_id, key, "none").asks("usage", "SELECT 1")
    assert "There is no SQL source 'usage'" in text
