"""The tool `sql` in a metered run, as the supervisor calls it: on the list or not, in the ledger."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.ids import new_id
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.sources.sql.sources import SqlSources
from tenantplane.dataplane.tools.definitions import ToolContext
from tenantplane.dataplane.tools.executor import ToolCallRequest, ToolExecutor, ToolOutcome
from tenantplane.dataplane.tools.limits import ToolLimits
from tenantplane.dataplane.tools.registry import resolve_tools
from tenantplane.dataplane.tools.sql import sql_tool
from tests.fixtures.runtime import AgentPlane, TenantUnderTest


def granting(tenant: TenantUnderTest, **changes: object) -> Snapshot:
    return tenant.snapshot.model_copy(update=changes)


async def called(
    plane: AgentPlane, tenant: TenantUnderTest, snapshot: Snapshot, **arguments: str
) -> ToolOutcome:
    run = MeteredRun(
        meter=plane.meter,
        providers=plane.providers,
        tenant=tenant.context,
        snapshot=snapshot,
        standing=lambda: snapshot,
        run_id=new_id(),
        thread_id=None,
    )
    allowed = resolve_tools(snapshot, tenant.context, (sql_tool(SqlSources(plane.database)),))
    context = ToolContext(tenant.context, f"{tenant.org_id}::t", plane.database, run)
    executor = ToolExecutor(allowed, lambda: allowed, context, run, ToolLimits())
    return await executor.execute(ToolCallRequest("c1", "sql_query", json.dumps(arguments)))


@pytest.mark.req("R3")
async def test_each_question_is_in_the_ledger_and_the_ledger_can_be_asked(
    agent_plane: AgentPlane,
) -> None:
    tenant, other = agent_plane.tenant(tools=("sql",)), agent_plane.tenant(tools=("sql",))
    snapshot = granting(tenant, data_sources=("usage",))
    question = "SELECT kind, name, status FROM calls ORDER BY made_at"
    first = await called(agent_plane, tenant, snapshot, source="usage", sql=question)
    assert first.text.splitlines() == ["kind | name | status", '"tool" | "sql_query" | "open"']
    second = await called(agent_plane, tenant, snapshot, source="usage", sql=question)
    assert second.text.splitlines()[1:] == [
        '"tool" | "sql_query" | "actual"',
        '"tool" | "sql_query" | "open"',
    ]
    theirs = replace(other, snapshot=granting(other, data_sources=("usage",)))
    seen = await called(agent_plane, other, theirs.snapshot, source="usage", sql=question)
    assert len(seen.text.splitlines()) == 2  # its own call alone


@pytest.mark.req("R3")
@pytest.mark.fault("F14")
async def test_an_attack_is_refused_and_recorded(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(tools=("sql",))
    snapshot = granting(tenant, data_sources=("usage",))
    attack = "SELECT set_config('app.current_tenant', 'other', true)"
    outcome = await called(agent_plane, tenant, snapshot, source="usage", sql=attack)
    assert outcome.failed == "tool_failed"
    assert "set_config is not available" in outcome.text
    (row,) = await agent_plane.outcomes(tenant)
    assert row["stage"] == "actual"
    record = await agent_plane.record(tenant, str(row["record_id"]))
    assert attack in json.dumps(record.model_dump(mode="json"))


@pytest.mark.req("R3")
async def test_without_the_entitlement_there_is_no_such_tool(agent_plane: AgentPlane) -> None:
    tenant = agent_plane.tenant(tools=("clock",))
    snapshot = granting(tenant, data_sources=("usage",))
    outcome = await called(agent_plane, tenant, snapshot, source="usage", sql="SELECT 1")
    assert outcome.failed == "not_on_the_list"
