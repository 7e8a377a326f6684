"""The built-in tools, and which of their functions an org's snapshot allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.allowed import allowed_names
from tenantplane.dataplane.tools.clock import CLOCK
from tenantplane.dataplane.tools.definitions import Tool, ToolFunction
from tenantplane.dataplane.tools.notes import NOTES

BUILT_IN: tuple[Tool, ...] = (CLOCK, NOTES)

ResolvedTools = Mapping[str, ToolFunction[Any]]


def resolve_tools(
    snapshot: Snapshot, tenant: TenantContext, tools: Iterable[Tool] = BUILT_IN
) -> ResolvedTools:
    """Functions by name, from the signed snapshot alone: default deny.

    A tool that the snapshot names and this plane lacks is left out: nothing can call it.
    """
    granted = allowed_names("tool", snapshot, tenant)
    return {
        function.name: replace(function, tool=tool.name)
        for tool in tools
        if tool.name in granted
        for function in tool.functions
    }
