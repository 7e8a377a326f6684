"""What an org may use, and why or why not, as the registry answers it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tenantplane.core.apis.catalogue import Kind
from tenantplane.core.apis.common import Model


class EntitledView(Model):
    """Something that the org may use; with `roles`, holders of one of them alone."""

    kind: Kind
    name: str
    version: int | None = Field(default=None, description="Of a prompt: the one in force.")
    roles: tuple[str, ...] = ()


class EntitlementsView(Model):
    """All that an org may use, as its snapshot says it."""

    org_id: str
    plan: str
    status: Literal["active", "suspended", "deleted"]
    version: int = Field(description="Version of the signed snapshot.")
    items: tuple[EntitledView, ...]


class RowView(Model):
    """A row that counted: where it stands, and what it says."""

    where: str = Field(description="Such as \"plan 'pro': entitlements.tools\".")
    effect: Literal["allow", "deny", "role_bound"]
    name: str
    roles: tuple[str, ...] = ()


class ExplanationView(Model):
    """Whether something is allowed, by which rows, and what to change."""

    kind: Kind
    name: str
    allowed: bool
    reason: str = Field(
        description="granted, not_in_plan, denied, no_price, prompt_without_version, role_missing, "
        "role_unknown, scope_missing, key_not_in_force, suspended or deleted."
    )
    message: str
    hint: str | None = None
    rows: tuple[RowView, ...] = ()
    roles: tuple[str, ...] | None = Field(
        default=None, description="Roles that were asked for; none where they are not known."
    )
    version: int = Field(description="Version of the signed snapshot that says so.")
