"""Between a plane and the control plane. Planes dial out; nothing dials in.

A plane asks for changes after a cursor; asking after it says that all before it is applied.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from tenantplane.core.apis.common import Wire

# Code of the refusal by a plane whose live database does not pass its check.
ISOLATION_NOT_VERIFIED: Final = "isolation_not_verified"
# Bounds of an isolation report: a database in ruins has more findings than anybody reads.
MOST_FINDINGS: Final = 50
LONGEST_FINDING_SUBJECT: Final = 200
LONGEST_FINDING_MESSAGE: Final = 500


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


class IsolationFinding(Wire):
    """What the check of a live database found (core/db/doctor.py); names of the catalogue alone."""

    severity: Literal["refuse", "warn"]
    subject: str = Field(max_length=LONGEST_FINDING_SUBJECT)
    message: str = Field(max_length=LONGEST_FINDING_MESSAGE)


class IsolationReport(Wire):
    """One check of a plane's live database, refusals first. The counts are of all findings; the
    plane reports again within `interval_seconds`."""

    interval_seconds: float = Field(gt=0, le=86_400)
    refusals: int = Field(ge=0, le=1_000_000)
    warnings: int = Field(ge=0, le=1_000_000)
    findings: tuple[IsolationFinding, ...] = Field(default=(), max_length=MOST_FINDINGS)
