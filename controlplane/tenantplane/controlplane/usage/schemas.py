"""Answers about usage."""

from __future__ import annotations

from datetime import datetime
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
    """All months of an org and of the orgs below it, in its own time zone."""

    org_id: str
    time_zone: str
    orgs: tuple[str, ...] = Field(description="Whose usage this is the sum of.")
    months: tuple[MonthlyUsage, ...]
    today_nanousd: int
    this_month_nanousd: int
    forecast_nanousd: int = Field(description="What this month comes to if it goes on like this.")
    spike: bool = Field(description="Today is above three times the median of two weeks before.")


class SpendAlert(Model):
    """Spend reached a threshold of a cap, of an org with all orgs below it."""

    period: Literal["day", "month"]
    period_id: str
    threshold_percent: Literal[50, 80, 100]
    cap_kind: Literal["soft", "hard"]
    cap_nanousd: int
    spent_nanousd: int = Field(description="When the threshold was reached.")
    raised_at: datetime
