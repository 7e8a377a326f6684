"""Bounds of the executor; that calls are metered is proven on the real meter (integration)."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tenantplane.core.db.pool import Database
from tenantplane.core.ids import new_id
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.tools.definitions import (
    ToolArguments,
    ToolContext,
    ToolFailed,
    ToolFunction,
)
from tenantplane.dataplane.tools.executor import (
    ToolCallRequest,
    ToolExecutor,
    ToolOutcome,
)
from tenantplane.dataplane.tools.limits import ToolLimits


class RecordingRun:
    """Stands for a MeteredRun: keeps what was opened and how it was closed."""

    run_id = new_id()
    thread_id = "t"

    def __init__(self) -> None:
        self.opened: list[tuple[str, Any, float]] = []
        self.closed: list[tuple[Any, str | None]] = []
        self.abandoned: list[object] = []
        self.is_open = asyncio.Event()

    async def open_tool(
        self, name: str, arguments: Any, deadline_seconds: float, *, tool: str | None = None
    ) -> object:
        self.opened.append((name, arguments, deadline_seconds))
        self.is_open.set()
        return object()

    async def close_tool(
        self, opened: object, response: Any, *, failed: str | None, ran: bool = True
    ) -> None:
        self.closed.append((response, failed))

    async def abandon_tool(self, opened: object) -> None:
        self.abandoned.append(opened)


async def long_answer(context: ToolContext, arguments: ToolArguments) -> str:
    return "é" * 1_000


async def never(context: ToolContext, arguments: ToolArguments) -> str:
    await asyncio.Event().wait()
    return ""


async def broken(context: ToolContext, arguments: ToolArguments) -> str:
    raise RuntimeError("password=hunter2")


async def refusing(context: ToolContext, arguments: ToolArguments) -> str:
    raise ToolFailed("not on a Sunday")


FUNCTIONS = {
    f.__name__: ToolFunction(f.__name__, "A tool.", ToolArguments, f)
    for f in (long_answer, never, broken, refusing)
}
TENANT = TenantContext("acme", "acme", "user:u", "u", "pro", "local")


@pytest.mark.parametrize(
    ("name", "arguments", "text", "failed"),
    [
        ("long_answer", "", "é" * 5 + "\n[cut: the output was too long]", None),
        ("never", "{}", "Error: never did not answer in time.", "timed_out"),
        ("broken", "{}", "Error: broken failed; try again later.", "tool_broken"),
        ("refusing", "{}", "Error: not on a Sunday", "tool_failed"),
        ("refusing", "{", None, "invalid_arguments"),
        ("refusing", "[]", None, "invalid_arguments"),
        ("refusing", '{"x": 1}', None, "invalid_arguments"),
        ("os.system", "{}", "Error: There is no tool 'os.system'.", "not_on_the_list"),
        ("", "{}", "Error: There is no tool ''.", "not_on_the_list"),
    ],
)
async def test_each_call_is_opened_closed_and_ends_as_words(
    name: str, arguments: str, text: str | None, failed: str | None
) -> None:
    run = RecordingRun()
    limits = ToolLimits(timeout_seconds=0.05, output_bytes=11)
    context = ToolContext(TENANT, "acme::t", cast("Database", None), cast("MeteredRun", run))
    executor = ToolExecutor(FUNCTIONS, lambda: FUNCTIONS, context, cast("MeteredRun", run), limits)
    outcome = await executor.execute(ToolCallRequest("c1", name, arguments))
    assert text is None or outcome.text == text
    assert outcome.failed == failed
    assert len(run.opened) == 1
    assert run.closed == [({"output": outcome.text}, failed)]


async def test_names_that_a_model_makes_up_are_tamed_for_the_ledger() -> None:
    run = RecordingRun()
    context = ToolContext(TENANT, "acme::t", cast("Database", None), cast("MeteredRun", run))
    executor = ToolExecutor({}, dict, context, cast("MeteredRun", run), ToolLimits())
    await executor.execute(ToolCallRequest("c", "a\0b\nc" + "x" * 200, "y" * 100_000))
    ((name, arguments, _),) = run.opened
    assert name == "a_b_c" + "x" * 95
    assert len(arguments["arguments"]) == 16 * 1024


async def test_a_call_whose_client_left_is_closed_as_interrupted() -> None:
    """What it did by then is on record at once, not when a sweeper finds it."""
    run = RecordingRun()
    context = ToolContext(TENANT, "acme::t", cast("Database", None), cast("MeteredRun", run))
    executor = ToolExecutor(
        FUNCTIONS, lambda: FUNCTIONS, context, cast("MeteredRun", run), ToolLimits()
    )
    executing = asyncio.create_task(executor.execute(ToolCallRequest("c1", "never", "{}")))
    await run.is_open.wait()
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing
    assert (len(run.abandoned), run.closed) == (1, [])


async def test_a_call_that_the_run_refuses_is_on_record_and_does_nothing() -> None:
    run = RecordingRun()
    context = ToolContext(TENANT, "acme::t", cast("Database", None), cast("MeteredRun", run))
    executor = ToolExecutor(
        FUNCTIONS, lambda: FUNCTIONS, context, cast("MeteredRun", run), ToolLimits()
    )
    too_many = ToolOutcome("Error: too many.", failed="too_many")
    request = ToolCallRequest("c1", "never", "{}")
    assert await executor.execute(request, refused=too_many) == too_many
    assert run.closed == [({"output": "Error: too many."}, "too_many")]


@pytest.mark.req("R21")
async def test_a_tool_that_was_taken_back_in_mid_run_is_called_no_more() -> None:
    run = RecordingRun()
    context = ToolContext(TENANT, "acme::t", cast("Database", None), cast("MeteredRun", run))
    in_force = set(FUNCTIONS)
    executor = ToolExecutor(
        FUNCTIONS, lambda: in_force, context, cast("MeteredRun", run), ToolLimits()
    )
    call = ToolCallRequest("c1", "long_answer", "{}")
    assert (await executor.execute(call)).failed is None
    in_force.remove("long_answer")
    assert (await executor.execute(call)).failed == "not_on_the_list"
