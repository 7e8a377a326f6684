"""The claims of tokens that the control plane issues itself (DESIGN section 6)."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from tenantplane.core.apis.common import Name, OrgId

# RFC 9068 section 2.1: tells an access token from an ID token.
ACCESS_TYP: Final = "at+jwt"
# draft-ietf-oauth-rfc7523bis: tells a client's assertion from every other JWT of that client.
CLIENT_ASSERTION_TYP: Final = "client-authentication+jwt"

AUDIENCE_DATA_PLANE: Final = "tenantplane:data-plane"
AUDIENCE_CONTROL_PLANE: Final = "tenantplane:control-plane"

MAX_ACCESS_LIFETIME_SECONDS: Final = 900
PLANE_SUBJECT_PREFIX: Final = "plane:"

_Text = Annotated[str, Field(min_length=1, max_length=255)]


class _Claims(BaseModel):
    """Strict: `"exp": "1"` is refused, not converted. Unknown claims are ignored (RFC 9068)."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    iss: Annotated[str, Field(min_length=1, max_length=500)]
    aud: _Text
    sub: _Text
    exp: int  # seconds since the epoch, as RFC 7519's NumericDate
    iat: int
    jti: _Text


class AccessClaims(_Claims):
    """A user or machine of one org, for a data plane. Lives 15 minutes at most."""

    org_id: OrgId
    root_org_id: OrgId
    plan: Name
    region: Name
    plane: Name
    roles: tuple[Annotated[str, Field(max_length=255)], ...] = Field(default=(), max_length=100)
    epoch: int = Field(ge=0)  # token epoch of the org: a lower one than the snapshot's is stale


class PlaneClaims(_Claims):
    """A data plane, for the control plane: no org of its own."""

    plane: Name
    region: Name
