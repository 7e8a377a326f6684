"""Answers about usage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tenantplane.core.apis.common import Model


class MonthlyUsage(Model):
    """What one model or tool cost an org in one month of the org's time zone."""

    month: str = Field(description="Such as '2026-02'.")
    kind: Literal["model", "tool"]
    resource: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_nanousd: int = Field(description="Sum of the events' differences, in nano-dollars.")


class UsageView(Model):
    """All months of an org."""

    org_id: str
    time_zone: str
    months: tuple[MonthlyUsage, ...]
