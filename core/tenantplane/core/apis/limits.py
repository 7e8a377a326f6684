"""Limits on a plan or a tenant: of the org, and of each user, key and run in it. An absent limit
does not limit."""

from __future__ import annotations

from typing import Final, Literal, Self, TypeVar

from pydantic import Field, JsonValue, model_validator

from tenantplane.core.apis.common import USD, Model
from tenantplane.core.money import parse_usd

SOFT_ABOVE_HARD: Final = "softCapUSD is above hardCapUSD: lower it"
DAY_SOFT_ABOVE_HARD: Final = "softCapUSDPerDay is above hardCapUSDPerDay: lower it"


def _soft_below_hard(soft: str, hard: str, message: str) -> JsonValue:
    """The CRD's rule that a soft cap lies under the hard cap of the same period."""
    return {
        "rule": f"!has(self.{soft}) || !has(self.{hard})"
        f" || double(self.{soft}) <= double(self.{hard})",
        "message": message,
        "fieldPath": f".{soft}",
    }


class Caps(Model):
    """Rates per sliding minute, calls at a time, and caps on spend per calendar day and month in
    the org's time zone."""

    model_config = Model.model_config | {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                _soft_below_hard("softCapUSD", "hardCapUSD", SOFT_ABOVE_HARD),
                _soft_below_hard("softCapUSDPerDay", "hardCapUSDPerDay", DAY_SOFT_ABOVE_HARD),
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
    concurrent_calls: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Model and tool calls at a time; 429 beyond it.",
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
    soft_cap_usd_per_day: USD | None = Field(
        default=None,
        alias="softCapUSDPerDay",
        description="As softCapUSD, of a calendar day.",
    )
    hard_cap_usd_per_day: USD | None = Field(
        default=None,
        alias="hardCapUSDPerDay",
        description="As hardCapUSD, of a calendar day.",
    )
    shadow: bool | None = Field(
        default=None,
        description="true: report what these limits would refuse, in logs and metrics, and refuse nothing.",
    )

    @model_validator(mode="after")
    def _soft_caps_below_hard_caps(self) -> Self:
        """The CRD's CEL rules, for callers that come without Kubernetes."""
        for soft, hard, message in (
            (self.soft_cap_usd, self.hard_cap_usd, SOFT_ABOVE_HARD),
            (self.soft_cap_usd_per_day, self.hard_cap_usd_per_day, DAY_SOFT_ABOVE_HARD),
        ):
            if soft is not None and hard is not None and parse_usd(soft) > parse_usd(hard):
                raise ValueError(message)
        return self


class RunLimits(Model):
    """Bounds of one agent run: it is halted where it meets one."""

    steps: int | None = Field(
        default=None, ge=1, le=10_000, description="Model and tool calls of a run."
    )
    seconds: int | None = Field(
        default=None, ge=1, le=86_400, description="Seconds from a run's beginning to its end."
    )
    cost_usd: USD | None = Field(
        default=None,
        alias="costUSD",
        description="Spend of a run in USD, such as '2.50', that settled spend plus open holds never passes.",
    )


class Limits(Caps):
    """Limits of an org, and of each user, key and run in it."""

    per_user: Caps | None = Field(default=None, description="Limits of each end user of the org.")
    per_key: Caps | None = Field(default=None, description="Limits of each API key of the org.")
    per_run: RunLimits | None = Field(default=None, description="Bounds of each agent run.")
    on_provider_excess: Literal["halt", "continue"] | None = Field(
        default=None,
        description="What follows where a provider reports more than a call was held for: 'halt' (where absent)"
        " stops the org's calls until somebody acknowledges it, 'continue' records it alone.",
    )

    def over(self, below: Limits) -> Limits:
        """These limits, and where one is absent, that of `below`, field by field."""
        # Not validated anew: a tenant's hard cap may well lie under its plan's soft cap.
        return _over(self, below)


_Limits = TypeVar("_Limits", bound=Model)


def _over(upper: _Limits, lower: _Limits) -> _Limits:
    changed: dict[str, object] = {}
    for name in type(upper).model_fields:
        value, under = getattr(upper, name), getattr(lower, name)
        if isinstance(value, Model) and isinstance(under, Model):
            changed[name] = _over(value, under)
        elif value is not None:
            changed[name] = value
    return lower.model_copy(update=changed)
