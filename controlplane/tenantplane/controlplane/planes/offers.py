"""Prices as a plan's manifest has them, in USD, as planes count them: nano-dollars a unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenantplane.core.apis.plan import ModelOffer, ToolPrice
from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.money import parse_usd, price_per_token


def model_grants(names: Iterable[str], offers: Sequence[ModelOffer]) -> tuple[ModelGrant, ...]:
    """What `names` cost. A model without an offer has no price, and what has no price is not
    granted; nor is a fallback that is not."""
    by_name = {offer.name: offer for offer in offers}
    granted = [by_name[name] for name in names if name in by_name]
    return tuple(_grant(offer, {other.name for other in granted}) for offer in granted)


def tool_prices(names: Iterable[str], prices: Iterable[ToolPrice]) -> dict[str, int]:
    """Of the tools `names` those that cost, in nano-dollars a call."""
    granted = set(names)
    return {
        price.name: parse_usd(price.usd_per_call)
        for price in sorted(prices, key=lambda price: price.name)
        if price.name in granted
    }


def _grant(offer: ModelOffer, granted: set[str]) -> ModelGrant:
    is_embedding = offer.kind == "embedding"
    return ModelGrant(
        name=offer.name,
        kind=offer.kind,
        dimensions=offer.dimensions,
        provider=offer.provider,
        upstream_model=offer.upstream_model or offer.name,
        input_nanousd_per_token=price_per_token(offer.input_usd_per_million_tokens),
        output_nanousd_per_token=price_per_token(offer.output_usd_per_million_tokens or "0"),
        cached_input_nanousd_per_token=_per_token(offer.cached_input_usd_per_million_tokens),
        reasoning_nanousd_per_token=_per_token(offer.reasoning_usd_per_million_tokens),
        image_nanousd=None if offer.image_usd is None else parse_usd(offer.image_usd),
        fallbacks=tuple(name for name in offer.fallbacks if name in granted),
        # An embedding call has no output: what it is held for is its prompt, and the least that a
        # grant can say besides.
        max_output_tokens=1 if is_embedding else offer.max_output_tokens,
        context_tokens=offer.context_tokens,
    )


def _per_token(usd_per_million: str | None) -> int | None:
    return None if usd_per_million is None else price_per_token(usd_per_million)
