"""`Tenant`: an org as the platform wants it (cluster-scoped; its name is the org_id)."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, model_validator

from tenantplane.core.apis.common import Model, Name, OrgId, PromptName
from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.names import RoleBoundLists

# Read once: the walk over the zone files takes milliseconds, and every view is validated.
_TIME_ZONES = available_timezones()


def _time_zone(name: str) -> str:
    if name not in _TIME_ZONES:
        raise ValueError(f"{name!r} is not an IANA time zone such as 'Europe/Berlin'")
    return name


class OIDCIssuer(Model):
    """An OpenID Connect issuer that belongs to this org and can assert this org alone."""

    type: Literal["oidc"] = Field(description="Kind of issuer; 'oidc' is supported.")
    issuer: str = Field(
        pattern=r"^https?://[^\s?#]+$",
        max_length=500,
        description="The issuer's URL, exactly as in the 'iss' claim; keys are found by its discovery document.",
    )
    audience: str = Field(
        min_length=1, max_length=500, description="The audience that tokens must carry."
    )
    user_claim: str = Field(default="sub", max_length=100, description="Claim that names the user.")
    roles_claim: str | None = Field(
        default=None,
        max_length=100,
        description="Claim that lists the user's roles; none where absent.",
    )
    max_lifetime_seconds: int = Field(
        default=86_400, ge=60, le=2_592_000, description="Longest life of a token that is accepted."
    )


class Identity(Model):
    """Who may sign the org's users in."""

    issuers: tuple[OIDCIssuer, ...] = Field(
        default=(),
        max_length=1,
        description="The org's own issuers; one for now.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["issuer"],
        },
    )


class Grants(Model):
    """Names over and above the plan's, and names denied; a denial always wins."""

    allow: tuple[Name, ...] = Field(
        default=(),
        max_length=500,
        description="Allowed beyond the plan.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    deny: tuple[Name, ...] = Field(
        default=(),
        max_length=500,
        description="Denied, whatever the plan says.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class PromptGrants(Model):
    """As Grants, of prompts: `greeting` is every version, `greeting@3` that one."""

    allow: tuple[PromptName, ...] = Field(
        default=(),
        max_length=500,
        description="Allowed beyond the plan; 'greeting@3' pins a version.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    deny: tuple[PromptName, ...] = Field(
        default=(),
        max_length=500,
        description="Denied, whatever the plan says; 'greeting' denies its versions too.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class TenantEntitlements(RoleBoundLists):
    """((plan ∪ allow) − deny) ∩ role, kind by kind."""

    tools: Grants = Field(
        default_factory=Grants, description="Tools over and above, or denied from, the plan."
    )
    models: Grants = Field(
        default_factory=Grants, description="Models over and above, or denied from, the plan."
    )
    prompts: PromptGrants = Field(
        default_factory=PromptGrants,
        description="Prompts over and above, or denied from, the plan.",
    )
    data_sources: Grants = Field(
        default_factory=Grants,
        description="Data sources over and above, or denied from, the plan.",
    )


class Dedicated(Model):
    """Where a dedicated data plane lives."""

    placement: Literal["namespace", "remote"] = Field(
        default="namespace", description="In this cluster, or in the tenant's own."
    )


TimeZone = Annotated[str, AfterValidator(_time_zone)]


class TenantSpec(Model):
    """What is wanted of a tenant."""

    model_config = Model.model_config | {
        "json_schema_extra": {
            "x-kubernetes-validations": [
                {
                    "rule": "self.region == oldSelf.region",
                    "message": "region is immutable: create another tenant there and move its data",
                    "fieldPath": ".region",
                    "reason": "FieldValueForbidden",
                },
                {
                    "rule": "has(self.parent) == has(oldSelf.parent) && (!has(self.parent) || self.parent == oldSelf.parent)",
                    "message": "parent is immutable: create another tenant under the other umbrella",
                    "fieldPath": ".parent",
                    "reason": "FieldValueForbidden",
                },
                {
                    "rule": "self.isolation == 'dedicated' || !has(self.dedicated)",
                    "message": "dedicated is for isolation: dedicated; remove it, or set isolation",
                    "fieldPath": ".dedicated",
                },
            ]
        }
    }

    display_name: str = Field(
        default="", max_length=200, description="The tenant's name for people."
    )
    parent: OrgId | None = Field(
        default=None, description="The umbrella org that this one belongs to; immutable."
    )
    plan: Name = Field(description="Name of a Plan.")
    region: Name = Field(
        default="local", description="Region that serves the tenant and keeps its data; immutable."
    )
    time_zone: TimeZone = Field(
        default="UTC",
        max_length=64,
        description="IANA time zone in which months of spend are cut, such as 'Europe/Berlin'.",
    )
    isolation: Literal["shared", "dedicated"] = Field(
        default="shared", description="Rows on a shared data plane, or a data plane of its own."
    )
    suspended: bool = Field(
        default=False, description="Stops all of the tenant's requests; data is kept."
    )
    deletion_policy: Literal["Retain", "Purge"] = Field(
        default="Retain",
        description="What deletion of this object does to the tenant's data: keep it for re-adoption, or destroy it for ever.",
    )
    max_offline_minutes: int = Field(
        default=240,
        ge=15,
        le=1440,
        description="How long a data plane that is cut off serves on signed entitlements.",
    )
    identity: Identity = Field(
        default_factory=Identity, description="Who may sign the tenant's users in."
    )
    entitlements: TenantEntitlements = Field(
        default_factory=TenantEntitlements,
        description="Tools, models, prompts and data sources over and above, or denied from, the plan.",
    )
    limits: Limits = Field(
        default_factory=Limits, description="Limits that override the plan's, field by field."
    )
    dedicated: Dedicated | None = Field(
        default=None, description="Where a dedicated data plane lives."
    )

    @model_validator(mode="after")
    def _rules_of_the_crd(self) -> Self:
        """The CRD's CEL rules, for callers that come without Kubernetes."""
        if self.dedicated is not None and self.isolation != "dedicated":
            raise ValueError("dedicated is for isolation: dedicated; remove it, or set isolation")
        return self


class Tenant(Model):
    """A manifest of kind Tenant."""

    api_version: Literal["tenantplane.io/v1alpha1"]
    kind: Literal["Tenant"]
    metadata: dict[str, object]
    spec: TenantSpec
