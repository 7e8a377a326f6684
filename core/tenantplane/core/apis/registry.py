"""Answers of the registry API, as the operator and the CLI read them."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from tenantplane.core.apis.common import Model, Name
from tenantplane.core.apis.plan import PlanSpec
from tenantplane.core.apis.planes import IsolationFinding
from tenantplane.core.apis.tenant import TenantSpec

# Who writes: "kubernetes:<uid of the object>" or "cli". A tenant has one writer.
WRITER_HEADER = "tenantplane-writer"
# metadata.generation of the object written from; a lower one than known is refused (409).
GENERATION_HEADER = "tenantplane-generation"
# "true" takes a tenant over from another writer.
TAKE_OVER_HEADER = "tenantplane-take-over"


# A report on its way, and a control plane that restarts, are no reason to doubt.
_REPORT_SLACK_SECONDS: Final = 60.0


class IsolationView(Model):
    """The last check of a plane's live database, as the plane reported it."""

    reported_at: datetime
    age_seconds: float
    interval_seconds: float = Field(description="The plane reports again within this time.")
    refusals: int = Field(description="Findings for which the plane serves nothing.")
    warnings: int
    first: IsolationFinding | None = Field(
        default=None, description="The first finding, refusals before warnings."
    )

    @property
    def is_stale(self) -> bool:
        """Whether two reports in a row are missing."""
        return self.age_seconds > 2 * self.interval_seconds + _REPORT_SLACK_SECONDS


class TenantView(Model):
    """A tenant as the registry knows it."""

    org_id: str
    root_org_id: str
    status: Literal["active", "suspended", "deleted"]
    spec: TenantSpec
    writer: str
    generation: int
    version: int = Field(description="Version of the signed snapshot in force.")
    token_epoch: int
    plane: str | None
    endpoint: str | None
    applied: bool = Field(description="Every live replica of the plane has applied this version.")
    isolation: IsolationView | None = Field(
        default=None, description="The check of the plane's database; none where none is known."
    )
    changed: bool = Field(
        default=False, description="Whether the call that this answers changed anything."
    )


class PlanView(Model):
    name: str
    spec: PlanSpec
    writer: str
    generation: int
    version: int
    tenants: int
    changed: bool = False


class ApiKeyRequest(Model):
    """A machine's key. It acts as `user_id` within the org."""

    name: str = Field(min_length=1, max_length=100)
    user_id: str = Field(min_length=1, max_length=200)
    roles: tuple[Name, ...] = ()
    scopes: tuple[Name, ...] | None = None
    expires_in_seconds: int | None = Field(default=None, ge=60, le=31_536_000)


class ApiKeyView(Model):
    key_id: str
    name: str
    user_id: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class ApiKeyCreated(ApiKeyView):
    """The only answer that ever carries the secret."""

    secret: str = Field(repr=False)
    version: int = Field(description="Snapshot version that carries the key.")


class PlaneRequest(Model):
    """A plane to be enrolled."""

    region: Name = "local"
    endpoint: str = Field(pattern=r"^https?://[^\s]+$", max_length=500)
    kind: Literal["shared"] = "shared"


class PlaneView(Model):
    name: str
    region: str
    endpoint: str
    kind: Literal["shared"]
    enrolled: bool
    replicas: int
    orgs: int
    isolation: IsolationView | None = None


class PlaneCreated(PlaneView):
    enrolment_token: str = Field(repr=False)
