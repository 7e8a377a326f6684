"""`Plan`: a named bundle of entitlements, limits and prices (cluster-scoped)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tenantplane.core.apis.common import Model, Name, USDPerMillionTokens
from tenantplane.core.apis.limits import Limits


class ModelOffer(Model):
    """A model as the plan sells it: who provides it, its bounds and its selling price."""

    name: Name = Field(description="The name that callers use, such as 'assistant-1'.")
    provider: Name = Field(
        default="default",
        description="Provider as the data plane's settings name it; 'default' is the plane's own choice.",
    )
    upstream_model: str | None = Field(
        default=None,
        max_length=200,
        description="The provider's name for the model; the model's own name where absent.",
    )
    input_usd_per_million_tokens: USDPerMillionTokens = Field(
        alias="inputUSDPerMillionTokens",
        description="Selling price of a million prompt tokens in USD, such as '0.15'; at most three decimals.",
    )
    output_usd_per_million_tokens: USDPerMillionTokens = Field(
        alias="outputUSDPerMillionTokens",
        description="Selling price of a million completion tokens in USD, such as '0.60'; at most three decimals.",
    )
    max_output_tokens: int = Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="Upper bound of one answer; what a call without max_tokens is held for.",
    )
    context_tokens: int = Field(
        default=128_000, ge=1, le=10_000_000, description="The model's context window in tokens."
    )


class PlanEntitlements(Model):
    """What every org of the plan may use; nothing else is allowed."""

    tools: tuple[Name, ...] = Field(
        default=(),
        max_length=500,
        description="Tools by name.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    models: tuple[Name, ...] = Field(
        default=(),
        max_length=500,
        description="Models by name, out of prices.models.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Prices(Model):
    """The price book of the plan."""

    models: tuple[ModelOffer, ...] = Field(
        default=(),
        max_length=500,
        description="Models that the plan can sell; a model without a price is refused.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )


class PlanSpec(Model):
    """What is wanted of a plan."""

    display_name: str = Field(default="", max_length=200, description="The plan's name for people.")
    entitlements: PlanEntitlements = Field(
        default_factory=PlanEntitlements, description="Tools and models that the plan includes."
    )
    limits: Limits = Field(
        default_factory=Limits,
        description="Limits of each org of the plan; a tenant's own limits override them field by field.",
    )
    prices: Prices = Field(default_factory=Prices, description="Models and their selling prices.")


class Plan(Model):
    """A manifest of kind Plan."""

    api_version: Literal["tenantplane.io/v1alpha1"]
    kind: Literal["Plan"]
    metadata: dict[str, object]
    spec: PlanSpec
