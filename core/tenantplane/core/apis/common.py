"""What all API types share: names as the wire has them, and nothing unknown let through."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tenantplane.core import money
from tenantplane.core.ids import ORG_ID_PATTERN

GROUP: Final = "tenantplane.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# A role, tool, model or plan: lower-case words joined by - . _ or /
NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9._/]{0,98}[a-z0-9])?$"
# A prompt, or one version of it: greeting, greeting@3
PROMPT_PATTERN: Final = r"^[a-z0-9]([-a-z0-9._/]{0,98}[a-z0-9])?(@[1-9][0-9]{0,8})?$"
USD_PATTERN: Final = r"^[0-9]{1,7}(\.[0-9]{1,9})?$"


class Model(BaseModel):
    """camelCase on the wire (as Kubernetes has it), snake_case in Python; unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class Wire(BaseModel):
    """Documents between planes: snake_case. Unknown fields are ignored, so that the control plane
    can be upgraded before its planes (expand, then contract)."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _usd(text: str) -> str:
    if money.parse_usd(text) > money.MAX_CAP:
        raise ValueError(f"at most {money.format_usd(money.MAX_CAP)}")
    return text


def _token_price(text: str) -> str:
    money.price_per_token(text)
    return text


OrgId = Annotated[str, Field(pattern=ORG_ID_PATTERN, max_length=40)]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)]
PromptName = Annotated[str, Field(pattern=PROMPT_PATTERN, max_length=110)]
USD = Annotated[str, Field(pattern=USD_PATTERN, max_length=17), AfterValidator(_usd)]
USDPerMillionTokens = Annotated[
    str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,3})?$", max_length=10), AfterValidator(_token_price)
]
