"""What each kind of issuer's tokens look like, and what is demanded of them.

A vendor's preset is a function from its manifest form to `IssuerRules`; verification knows the
rules alone. Built: any OpenID Connect issuer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenantplane.core.apis.tenant import OIDCIssuer
from tenantplane.core.identity.jwk import ASYMMETRIC


@dataclass(frozen=True, slots=True)
class IssuerRules:
    """One issuer as its tokens are verified."""

    issuer: str  # exactly as in `iss`
    audience: str
    max_lifetime_seconds: int
    algorithms: frozenset[str]
    user_claim: str = "sub"
    roles_claim: str | None = None
    # The first of these that a token has must carry the audience. Vendors that send no `aud` put
    # the client in `azp` or `client_id`.
    audience_claims: tuple[str, ...] = ("aud",)


# No "none" and no HS*: the platform shares no secret with an issuer.
GENERIC_ALGORITHMS: Final = ASYMMETRIC


def generic_oidc(issuer: OIDCIssuer) -> IssuerRules:
    """OpenID Connect Core 1.0, section 3.1.3.7; RFC 9068 where the issuer speaks it."""
    return IssuerRules(
        issuer=issuer.issuer,
        audience=issuer.audience,
        max_lifetime_seconds=issuer.max_lifetime_seconds,
        algorithms=GENERIC_ALGORITHMS,
        user_claim=issuer.user_claim,
        roles_claim=issuer.roles_claim,
    )
