"""More room under an org's caps for a time, and what is asked and answered about it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from tenantplane.core.apis.common import USD, Model
from tenantplane.core.money import parse_usd


def _some(text: str) -> str:
    if not parse_usd(text):
        raise ValueError("must be more than 0")
    return text


class RaiseRequest(Model):
    """A temporary raise; without `endsAt` a top-up of the period that is running."""

    period: Literal["day", "month"] = Field(
        default="month", description="Whose caps are raised, soft and hard."
    )
    extra_usd: Annotated[USD, AfterValidator(_some)] = Field(
        alias="extraUSD", description="How much more may be spent in each such period, in USD."
    )
    begins_at: AwareDatetime | None = Field(default=None, description="Now, where absent.")
    ends_at: AwareDatetime | None = Field(
        default=None,
        description="The end of the running period in the tenant's time zone, where absent.",
    )


class RaiseView(Model):
    """A raise as it stands. `state` by the control plane's clock."""

    raise_id: str
    period: Literal["day", "month"]
    extra_usd: str = Field(alias="extraUSD")
    begins_at: datetime
    ends_at: datetime
    state: Literal["coming", "in force", "over", "ended"]
    created_by: str
    created_at: datetime
    ended_by: str | None = None
    ended_at: datetime | None = None
    version: int | None = Field(
        default=None, description="Snapshot version that says so, in answers to changes."
    )


class ExcessAcknowledged(Model):
    """Calls that were stopped by a provider's excess before this time go on."""

    org_id: str
    excess_acknowledged_until: datetime
    version: int
