"""Limits of an org, on a plan or a tenant; an absent limit does not limit."""

from __future__ import annotations

from pydantic import Field

from tenantplane.core.apis.common import USD, Model


class Limits(Model):
    """Rates per sliding minute, and caps on spend per calendar month in the org's time zone."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Requests per sliding minute; 429 beyond it."
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000_000,
        description="Tokens per sliding minute; 429 beyond it.",
    )
    soft_cap_usd: USD | None = Field(
        default=None,
        alias="softCapUSD",
        description="Spend per month in USD, such as '900', from which no new work starts (429); running work goes on.",
    )
    hard_cap_usd: USD | None = Field(
        default=None,
        alias="hardCapUSD",
        description="Spend per month in USD, such as '1000', that settled spend plus open holds never passes (402).",
    )

    def over(self, below: Limits) -> Limits:
        """These limits, and where one is absent, that of `below`."""
        return Limits.model_validate(
            below.model_dump(exclude_none=True) | self.model_dump(exclude_none=True)
        )
