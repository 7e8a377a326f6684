"""`Plan`: a named bundle of entitlements, limits and prices (cluster-scoped)."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from tenantplane.core.apis.common import Model, Name, USDPerMillionTokens
from tenantplane.core.apis.limits import Limits
from tenantplane.core.money import price_per_token

# pgvector's HNSW index ends here for type `vector` (github.com/pgvector/pgvector, "HNSW").
MAX_DIMENSIONS: Final = 2000

_OUTPUT_PRICED: Final = (
    "outputUSDPerMillionTokens is required for kind: chat; say '0' where answers are free"
)
_OUTPUT_FREE: Final = "an embedding model has no output: remove outputUSDPerMillionTokens"
_DIMENSIONS_NAMED: Final = (
    "dimensions is required for kind: embedding; it is the length of the model's vectors"
)
_DIMENSIONS_LEFT_OUT: Final = "dimensions is for kind: embedding; remove it, or set kind"


class ModelOffer(Model):
    """A model as the plan sells it: who provides it, its bounds and its selling price."""

    model_config = Model.model_config | {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                {
                    "rule": "self.kind != 'chat' || has(self.outputUSDPerMillionTokens)",
                    "message": _OUTPUT_PRICED,
                    "fieldPath": ".outputUSDPerMillionTokens",
                },
                {
                    "rule": "self.kind != 'embedding' || !has(self.outputUSDPerMillionTokens)"
                    " || self.outputUSDPerMillionTokens.matches('^0+([.]0+)?$')",
                    "message": _OUTPUT_FREE,
                    "fieldPath": ".outputUSDPerMillionTokens",
                },
                {
                    "rule": "self.kind != 'embedding' || has(self.dimensions)",
                    "message": _DIMENSIONS_NAMED,
                    "fieldPath": ".dimensions",
                },
                {
                    "rule": "self.kind == 'embedding' || !has(self.dimensions)",
                    "message": _DIMENSIONS_LEFT_OUT,
                    "fieldPath": ".dimensions",
                },
            ]
        }
    }

    name: Name = Field(description="The name that callers use, such as 'assistant-1'.")
    kind: Literal["chat", "embedding"] = Field(
        default="chat", description="What it is called for: answers, or vectors of texts."
    )
    dimensions: int | None = Field(
        default=None,
        ge=1,
        le=MAX_DIMENSIONS,
        description="Length of an embedding model's vectors; required there, and nowhere else.",
    )
    provider: Name = Field(
        default="default",
        description="Provider as the data plane's settings name it; 'default' is the plane's own choice, "
        "'builtin' the embedder inside each data plane.",
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
    output_usd_per_million_tokens: USDPerMillionTokens | None = Field(
        default=None,
        alias="outputUSDPerMillionTokens",
        description="Selling price of a million completion tokens in USD, such as '0.60'; at most three decimals. "
        "Required for kind: chat; an embedding model has no output.",
    )
    max_output_tokens: int = Field(
        default=4096,
        ge=1,
        le=1_000_000,
        description="Upper bound of one answer; what a call without max_tokens is held for. "
        "Means nothing for kind: embedding.",
    )
    context_tokens: int = Field(
        default=128_000, ge=1, le=10_000_000, description="The model's context window in tokens."
    )

    @model_validator(mode="after")
    def _rules_of_the_crd(self) -> Self:
        """The CRD's CEL rules, for callers that come without Kubernetes."""
        output, is_chat = self.output_usd_per_million_tokens, self.kind == "chat"
        broken = (
            (is_chat and output is None, _OUTPUT_PRICED),
            (not is_chat and output is not None and price_per_token(output) > 0, _OUTPUT_FREE),
            (not is_chat and self.dimensions is None, _DIMENSIONS_NAMED),
            (is_chat and self.dimensions is not None, _DIMENSIONS_LEFT_OUT),
        )
        if messages := [message for is_broken, message in broken if is_broken]:
            raise ValueError("; ".join(messages))
        return self


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
    data_sources: tuple[Name, ...] = Field(
        default=(),
        max_length=500,
        description="Data sources by name, such as 'documents'.",
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
        default_factory=PlanEntitlements,
        description="Tools, models and data sources that the plan includes.",
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
