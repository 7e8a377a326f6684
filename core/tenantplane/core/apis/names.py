"""Lists of what can be entitled, as plans and tenants carry them."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from tenantplane.core.apis.common import Model, Name, PromptName

SET: Final = {"x-kubernetes-list-type": "set"}


class NameLists(Model):
    """Names, kind by kind."""

    tools: tuple[Name, ...] = Field(
        default=(), max_length=500, description="Tools by name.", json_schema_extra={**SET}
    )
    models: tuple[Name, ...] = Field(
        default=(),
        max_length=500,
        description="Models by name, out of the plan's prices.models.",
        json_schema_extra={**SET},
    )
    prompts: tuple[PromptName, ...] = Field(
        default=(),
        max_length=500,
        description="Prompts of the catalogue by name: 'greeting' in the version that is in force, "
        "'greeting@3' in that one alone.",
        json_schema_extra={**SET},
    )
    data_sources: tuple[Name, ...] = Field(
        default=(),
        max_length=500,
        description="Data sources by name, such as 'documents'.",
        json_schema_extra={**SET},
    )


class RoleNames(NameLists):
    """Of what the org may use, that which is for holders of a role alone."""

    role: Name = Field(description="A role of the caller's token or API key.")
    prompts: tuple[Name, ...] = Field(
        default=(),
        max_length=500,
        description="Prompts by name, in whatever version.",
        json_schema_extra={**SET},
    )


class RoleBoundLists(Model):
    """What narrows lists to roles."""

    role_bound: tuple[RoleNames, ...] = Field(
        default=(),
        max_length=100,
        description="Names for holders of one of the roles that list them, alone; they must be on the "
        "org's list all the same. A name that no role lists is for everybody.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["role"],
        },
    )
