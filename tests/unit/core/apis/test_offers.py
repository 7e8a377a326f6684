from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tenantplane.core.apis.plan import ModelOffer, PlanSpec
from tenantplane.core.apis.tenant import TenantSpec

CHAT: dict[str, Any] = {
    "name": "m",
    "inputUSDPerMillionTokens": "1",
    "outputUSDPerMillionTokens": "2",
}
EMBEDDING: dict[str, Any] = {
    "name": "e",
    "kind": "embedding",
    "dimensions": 8,
    "inputUSDPerMillionTokens": "1",
}


def test_prices_beside_those_of_tokens_are_left_out_by_default() -> None:
    offer = ModelOffer.model_validate(CHAT)
    assert offer.cached_input_usd_per_million_tokens is None
    assert offer.reasoning_usd_per_million_tokens is None
    assert (offer.image_usd, offer.fallbacks) == (None, ())


@pytest.mark.parametrize(
    ("offer", "told"),
    [
        (CHAT | {"fallbacks": ["m"]}, "no fallback of its own"),
        (CHAT | {"fallbacks": list("abcdef")}, "at most 5"),
        (CHAT | {"cachedInputUSDPerMillionTokens": "0.0001"}, "pattern"),
        (EMBEDDING | {"imageUSD": "1"}, "kind: chat"),
        (EMBEDDING | {"reasoningUSDPerMillionTokens": "1"}, "kind: chat"),
    ],
    ids=["itself", "six", "too fine", "images", "thoughts"],
)
def test_offers_that_mean_nothing_are_refused(offer: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ModelOffer.model_validate(offer)


@pytest.mark.parametrize(
    "name", ["greeting@0", "greeting@", "@1", "greeting@1@2", "greeting@x", "Greeting"]
)
def test_names_of_prompts_are_a_name_and_perhaps_a_version(name: str) -> None:
    with pytest.raises(ValidationError):
        PlanSpec.model_validate({"entitlements": {"prompts": [name]}})
    with pytest.raises(ValidationError):
        TenantSpec.model_validate({"plan": "p", "entitlements": {"prompts": {"deny": [name]}}})


def test_a_prompt_is_kept_for_roles_in_every_version() -> None:
    lists = {"roleBound": [{"role": "admin", "prompts": ["greeting@2"]}]}
    with pytest.raises(ValidationError):
        PlanSpec.model_validate({"entitlements": lists})
