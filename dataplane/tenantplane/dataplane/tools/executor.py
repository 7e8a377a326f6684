"""The only way to a tool: on the resolved list, with valid arguments, metered, bounded.

Whatever a tool does ends as a message to the model; a refusal of the meter (cap, suspension,
dependency) ends the run.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue, ValidationError

from tenantplane.core.telemetry.logging import about
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.tools.definitions import ToolContext, ToolFailed, ToolFunction
from tenantplane.dataplane.tools.limits import ToolLimits
from tenantplane.dataplane.tools.registry import ResolvedTools

_log = logging.getLogger(__name__)

# After the tool's own time-out: the time to write the outcome.
_SETTLING_SECONDS = 15.0
_MAX_NAME = 100
_UNUSUAL = re.compile(r"[^a-zA-Z0-9_.-]")
_MAX_AUDITED_ARGUMENTS = 16 * 1024


@dataclass(frozen=True, slots=True)
class ToolCallRequest:
    """A call as the model wrote it: nothing in it is trusted."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What the model reads; `failed` says why where it did not work, `ran` whether the tool was
    called at all."""

    text: str
    failed: str | None = None
    ran: bool = True


class ToolExecutor:
    """`allowed` is what the model was told of; `in_force` answers at each call what the caller may
    use by now, so that a tool that is taken back in mid-run is called no more."""

    def __init__(
        self,
        allowed: ResolvedTools,
        in_force: Callable[[], Container[str]],
        context: ToolContext,
        run: MeteredRun,
        limits: ToolLimits,
    ) -> None:
        self._allowed = allowed
        self._in_force = in_force
        self._context = context
        self._run = run
        self._limits = limits

    async def execute(
        self, call: ToolCallRequest, *, refused: ToolOutcome | None = None
    ) -> ToolOutcome:
        """Raises what `Meter.open` raises; refusals of the tool itself are outcomes.

        A call that is off the list, or that the run has `refused`, is opened and closed as failed:
        the audit log shows it.
        """
        with about(run_id=self._run.run_id, thread_id=self._run.thread_id):
            return await self._metered(call, refused)

    async def _metered(self, call: ToolCallRequest, refused: ToolOutcome | None) -> ToolOutcome:
        function = self._allowed.get(call.name)
        opened = await self._run.open_tool(
            _resource(call.name),
            _audited(call),
            self._limits.timeout_seconds + _SETTLING_SECONDS,
            tool=None if function is None or refused else function.tool,
        )
        try:
            outcome = refused or await self._outcome(call)
        except asyncio.CancelledError:
            await self._run.abandon_tool(opened)
            raise
        await self._run.close_tool(
            opened, {"output": outcome.text}, failed=outcome.failed, ran=outcome.ran
        )
        _log.info("tool %s: %s", _resource(call.name), outcome.failed or "done")
        return outcome

    async def _outcome(self, call: ToolCallRequest) -> ToolOutcome:
        function = self._allowed.get(call.name)
        if function is None or function.name not in self._in_force():
            _log.warning("refused a tool that is not on the org's list: %r", call.name[:_MAX_NAME])
            return _not_run("not_on_the_list", f"There is no tool {call.name[:_MAX_NAME]!r}.")
        try:
            arguments = function.arguments.model_validate_json(call.arguments or "{}")
        except ValidationError as invalid:
            faults = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}"
                for e in invalid.errors(include_url=False, include_input=False)
            )
            return _not_run("invalid_arguments", f"The arguments are not valid: {faults}")
        return await self._bounded(function, arguments)

    async def _bounded(self, function: ToolFunction[Any], arguments: Any) -> ToolOutcome:
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                text = await function.run(self._context, arguments)
        except ToolFailed as refused:
            return _refused("tool_failed", str(refused))
        except TimeoutError:
            return _refused("timed_out", f"{function.name} did not answer in time.")
        except Exception as broken:  # noqa: BLE001 - a tool's fault must not end the run
            # Type only: the text may quote a row or a secret.
            _log.error("tool %s failed with %s", function.name, type(broken).__name__)
            return _refused("tool_broken", f"{function.name} failed; try again later.")
        return ToolOutcome(_cut(text, self._limits.output_bytes))


def _resource(name: str) -> str:
    """The name for ledger and log: a model may write anything in its place."""
    return _UNUSUAL.sub("_", name[:_MAX_NAME]) or "unnamed"


def _audited(call: ToolCallRequest) -> JsonValue:
    return {"tool_call_id": call.id[:200], "arguments": call.arguments[:_MAX_AUDITED_ARGUMENTS]}


def _refused(reason: str, text: str) -> ToolOutcome:
    return ToolOutcome(f"Error: {text}", failed=reason)


def _not_run(reason: str, text: str) -> ToolOutcome:
    return ToolOutcome(f"Error: {text}", failed=reason, ran=False)


def _cut(text: str, limit: int) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[:limit].decode("utf-8", "ignore") + "\n[cut: the output was too long]"
