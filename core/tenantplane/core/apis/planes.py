"""Between a plane and the control plane. Planes dial out; nothing dials in.

A plane asks for changes after a cursor; asking after it says that all before it is applied.
"""

from __future__ import annotations

from pydantic import Field

from tenantplane.core.apis.common import Wire


class EnrollRequest(Wire):
    """Single use: the token is burnt, the plane's public key (JWK, ES256) is kept."""

    enrolment_token: str
    public_jwk: dict[str, str]


class Enrolled(Wire):
    plane: str
    region: str
    issuer: str
    jwks: dict[str, object]


class SignedSnapshot(Wire):
    org_id: str
    version: int = Field(ge=1)
    jws: str


class Changes(Wire):
    """Snapshots changed at or after the cursor asked for; `cursor` is what to ask for next."""

    cursor: int
    beacon: str
    snapshots: tuple[SignedSnapshot, ...]
    more: bool = False
