"""What there is to entitle to: entries of the catalogue, in versions that never change."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from tenantplane.core.apis.common import Model

Kind = Literal["tool", "model", "prompt", "data_source"]

MAX_PROMPT_BYTES: Final = 65_536


def _short_enough(text: str) -> str:
    if (size := len(text.encode())) > MAX_PROMPT_BYTES:
        raise ValueError(f"is {size} bytes; a prompt has at most {MAX_PROMPT_BYTES}")
    return text


class CatalogueRequest(Model):
    """What an entry is to say from now on."""

    description: str = Field(default="", max_length=2000, description="What it is, for people.")
    text: Annotated[str, Field(min_length=1), AfterValidator(_short_enough)] | None = Field(
        default=None, description="The prompt itself; for kind prompt, and for no other."
    )


class CatalogueVersion(Model):
    """One version of an entry, by whom and when."""

    version: int
    created_by: str
    created_at: datetime
    withdrawn_by: str | None = None
    withdrawn_at: datetime | None = None


class CatalogueView(Model):
    """An entry as it is in force; `version` None where every version was withdrawn."""

    kind: Kind
    name: str
    version: int | None
    description: str = ""
    text: str | None = Field(default=None, description="Left out of lists.")
    versions: tuple[CatalogueVersion, ...] = Field(default=(), description="Newest first.")
    changed: bool = False
    signed: int = Field(default=0, description="Tenants whose snapshot was signed anew.")
