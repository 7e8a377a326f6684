"""`private_key_jwt` (RFC 7523 section 3, OpenID Connect Core section 9): a client proves its key.

The signing half is `core.keys.signing.sign_client_assertion`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tenantplane.core.errors import Unauthenticated
from tenantplane.core.identity.claims import CLIENT_ASSERTION_TYP
from tenantplane.core.identity.jws import parse
from tenantplane.core.identity.keyset import KeySet

MAX_ASSERTION_LIFETIME_SECONDS: Final = 60
# Two machines' clocks: how far in the future an assertion may have been issued.
CLOCK_LEEWAY_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class VerifiedAssertion:
    """Store `jti` until `expires_at` and refuse it a second time: that is the caller's part."""

    jti: str
    expires_at: datetime


class _AssertionClaims(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    iss: str
    sub: str
    aud: str  # the sole value: an assertion for several audiences can be replayed among them
    iat: int = Field(ge=0, le=253_402_300_799)
    exp: int = Field(ge=0, le=253_402_300_799)
    jti: Annotated[str, Field(min_length=1, max_length=128)]


def verify_client_assertion(
    assertion: str, keys: KeySet, client_id: str, audience: str, *, now: float | None = None
) -> VerifiedAssertion:
    """`now` in seconds since the epoch, the host's clock by default. Raises Unauthenticated."""
    jws = keys.verify_parsed(parse(assertion), CLIENT_ASSERTION_TYP)
    try:
        claims = _AssertionClaims.model_validate_json(jws.payload)
    except ValidationError as error:
        names = sorted({str(e["loc"][0]) for e in error.errors(include_input=False) if e["loc"]})
        raise Unauthenticated(
            f"The client assertion lacks a good value of: {', '.join(names)}.",
            hint="RFC 7523 section 3 lists the claims; aud is one text.",
        ) from None
    if claims.iss != client_id or claims.sub != client_id:
        raise Unauthenticated("The client assertion's iss and sub are not the client_id.")
    if claims.aud != audience:
        raise Unauthenticated(f"The client assertion is for another audience than {audience}.")
    _check_times(claims, time.time() if now is None else now)
    return VerifiedAssertion(claims.jti, datetime.fromtimestamp(claims.exp, UTC))


def _check_times(claims: _AssertionClaims, now: float) -> None:
    if claims.exp <= now:
        raise Unauthenticated(
            "The client assertion has expired.", hint="Sign a new one; check the client's clock."
        )
    if claims.iat > now + CLOCK_LEEWAY_SECONDS:
        raise Unauthenticated(
            "The client assertion is issued in the future.", hint="Check the client's clock."
        )
    if claims.exp - claims.iat > MAX_ASSERTION_LIFETIME_SECONDS:
        raise Unauthenticated(
            f"The client assertion lives longer than {MAX_ASSERTION_LIFETIME_SECONDS} s."
        )
