"""Limits of an org, on a plan or a tenant; an absent limit does not limit."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tenantplane.core.apis.common import USD, Model
from tenantplane.core.money import parse_usd

SOFT_ABOVE_HARD = "softCapUSD is above hardCapUSD: lower it"


class Limits(Model):
    """Rates per sliding minute, and caps on spend per calendar month in the org's time zone."""

    model_config = Model.model_config | {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.softCapUSD) || !has(self.hardCapUSD)"
                    " || double(self.softCapUSD) <= double(self.hardCapUSD)",
                    "message": SOFT_ABOVE_HARD,
                    "fieldPath": ".softCapUSD",
                }
            ]
        }
    }

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

    @model_validator(mode="after")
    def _soft_cap_below_hard_cap(self) -> Self:
        """The CRD's CEL rule, for callers that come without Kubernetes."""
        soft, hard = self.soft_cap_usd, self.hard_cap_usd
        if soft is not None and hard is not None and parse_usd(soft) > parse_usd(hard):
            raise ValueError(SOFT_ABOVE_HARD)
        return self

    def over(self, below: Limits) -> Limits:
        """These limits, and where one is absent, that of `below`."""
        # Not validated anew: a tenant's hard cap may well lie under its plan's soft cap.
        return below.model_copy(update=self.model_dump(exclude_none=True))
