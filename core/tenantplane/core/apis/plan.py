"""`Plan`: a named bundle of entitlements, limits and prices (cluster-scoped)."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from tenantplane.core.apis.common import USD, Model, Name, USDPerMillionTokens
from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.names import NameLists, RoleBoundLists
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
_FALLBACK_TO_ITSELF: Final = "a model is no fallback of its own: remove it from fallbacks"
_CHAT_PRICES: Final = (
    "reasoningUSDPerMillionTokens and imageUSD are for kind: chat; remove them, or set kind"
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
                {
                    "rule": "self.kind == 'chat' || (!has(self.reasoningUSDPerMillionTokens)"
                    " && !has(self.imageUSD))",
                    "message": _CHAT_PRICES,
                    "fieldPath": ".kind",
                },
                {
                    "rule": "!has(self.fallbacks) || !(self.name in self.fallbacks)",
                    "message": _FALLBACK_TO_ITSELF,
                    "fieldPath": ".fallbacks",
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
    cached_input_usd_per_million_tokens: USDPerMillionTokens | None = Field(
        default=None,
        alias="cachedInputUSDPerMillionTokens",
        description="Selling price of prompt tokens that the provider had cached; "
        "inputUSDPerMillionTokens where absent.",
    )
    reasoning_usd_per_million_tokens: USDPerMillionTokens | None = Field(
        default=None,
        alias="reasoningUSDPerMillionTokens",
        description="Selling price of tokens that the model thought with; "
        "outputUSDPerMillionTokens where absent.",
    )
    image_usd: USD | None = Field(
        default=None,
        alias="imageUSD",
        description="Selling price of an image in the prompt, such as '0.002'; "
        "images are refused where absent.",
    )
    fallbacks: tuple[Name, ...] = Field(
        default=(),
        max_length=5,
        description="Models to try next, in this order, where the provider is in trouble; of the same kind, "
        "priced in this plan, and used only for those who may use them.",
        # In the order of trial: a set has none.
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
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
            (
                not is_chat
                and (self.reasoning_usd_per_million_tokens or self.image_usd) is not None,
                _CHAT_PRICES,
            ),
            (self.name in self.fallbacks, _FALLBACK_TO_ITSELF),
        )
        if messages := [message for is_broken, message in broken if is_broken]:
            raise ValueError("; ".join(messages))
        return self


class PlanEntitlements(NameLists, RoleBoundLists):
    """What every org of the plan may use; nothing else is allowed."""


class ToolPrice(Model):
    """What a call of one tool costs."""

    name: Name = Field(description="The tool.")
    usd_per_call: USD = Field(
        description="Selling price of a call in USD, such as '0.01', whatever it answers."
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
    tools: tuple[ToolPrice, ...] = Field(
        default=(),
        max_length=500,
        description="Tools whose calls cost; a tool that is not here is free of charge.",
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
        description="Tools, models, prompts and data sources that the plan includes.",
    )
    limits: Limits = Field(
        default_factory=Limits,
        description="Limits of each org of the plan; a tenant's own limits override them field by field.",
    )
    prices: Prices = Field(
        default_factory=Prices, description="Selling prices of models and tools."
    )


class Plan(Model):
    """A manifest of kind Plan."""

    api_version: Literal["tenantplane.io/v1alpha1"]
    kind: Literal["Plan"]
    metadata: dict[str, object]
    spec: PlanSpec
