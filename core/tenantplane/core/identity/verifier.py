"""TokenVerifier: from a bearer token to who it speaks for. Both planes verify with it.

Follows RFC 8725 (JWT best practice), RFC 9068 (access tokens) and OpenID Connect Core 3.1.3.7.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

from pydantic import ValidationError

from tenantplane.core.errors import Unauthenticated
from tenantplane.core.identity.claims import (
    ACCESS_TYP,
    MAX_ACCESS_LIFETIME_SECONDS,
    PLANE_SUBJECT_PREFIX,
    AccessClaims,
    PlaneClaims,
)
from tenantplane.core.identity.external_claims import (
    TokenUse,
    check_audience,
    check_use,
    roles_of,
    user_of,
)
from tenantplane.core.identity.jwks import JwksCache
from tenantplane.core.identity.jws import ParsedJws, parse
from tenantplane.core.identity.keyset import KeySet
from tenantplane.core.identity.presets import IssuerRules

# Between the issuer's clock and ours, for nbf and iat. None for exp: late is late.
CLOCK_LEEWAY_SECONDS: Final = 30
_LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59Z

_C = TypeVar("_C", AccessClaims, PlaneClaims)


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """A user as another issuer vouches for it. Which org that issuer may speak for is the
    caller's to decide (F3); `claims` are there to compare what the token says of org, plan and
    region with what is so."""

    user_id: str
    roles: frozenset[str]
    expires_at: datetime
    issuer: str
    claims: Mapping[str, object] = field(repr=False)


class TokenVerifier:
    """`now` gives seconds since the epoch: a data plane passes its database's clock."""

    def __init__(self, jwks: JwksCache, *, now: Callable[[], float] = time.time) -> None:
        self._jwks = jwks
        self._now = now

    async def verify_external(
        self, token: str, issuer: IssuerRules, use: TokenUse = "access_token"
    ) -> ExternalIdentity:
        """A token of an IdP. Raises Unauthenticated, and DependencyUnavailable where the issuer's
        keys cannot be had."""
        jws = parse(token)
        if jws.alg not in issuer.algorithms:
            raise Unauthenticated(
                f"The token's algorithm {jws.alg!r} is not on the issuer's list.",
                hint=f"Allowed: {', '.join(sorted(issuer.algorithms))}.",
            )
        if jws.claims.get("iss") != issuer.issuer:
            raise Unauthenticated(f"The token is not of the issuer {issuer.issuer}.")
        check_use(jws.typ, jws.claims, use)
        keys = await self._jwks.find(issuer.issuer, jws.kid, jws.alg)
        if not any(key.verifies(jws) for key in keys):
            raise Unauthenticated("The token's signature does not verify.")
        check_audience(jws.claims, issuer)
        expires_at = _check_times(jws.claims, self._now(), issuer.max_lifetime_seconds)
        return ExternalIdentity(
            user_id=user_of(jws.claims, issuer),
            roles=roles_of(jws.claims, issuer),
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            issuer=issuer.issuer,
            claims=jws.claims,
        )

    def verify_own(self, token: str, keys: KeySet, issuer: str, audience: str) -> AccessClaims:
        """A token that the control plane issued to a user or machine. Raises Unauthenticated."""
        return self._own(token, keys, issuer, audience, AccessClaims)

    def verify_plane(self, token: str, keys: KeySet, issuer: str, audience: str) -> PlaneClaims:
        """A token that the control plane issued to a data plane. Raises Unauthenticated."""
        claims = self._own(token, keys, issuer, audience, PlaneClaims)
        if claims.sub != PLANE_SUBJECT_PREFIX + claims.plane:
            raise Unauthenticated("The token does not speak for a plane.")
        return claims

    def _own(self, token: str, keys: KeySet, issuer: str, audience: str, kind: type[_C]) -> _C:
        jws = keys.verify_parsed(parse(token), ACCESS_TYP)
        claims = _read(jws, kind)
        if claims.iss != issuer:
            raise Unauthenticated(f"The token is not of the issuer {issuer}.")
        if claims.aud != audience:
            raise Unauthenticated(f"The token is not for the audience {audience!r}.")
        _check_times(jws.claims, self._now(), MAX_ACCESS_LIFETIME_SECONDS)
        return claims


def peek_issuer(token: str) -> str:
    """The `iss` of a token that is NOT verified: to choose the rules to verify it with, and for
    nothing else. Raises Unauthenticated."""
    issuer = parse(token).claims.get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise Unauthenticated("The token does not name its issuer (iss).")
    return issuer


def _read(jws: ParsedJws, kind: type[_C]) -> _C:
    try:
        return kind.model_validate_json(jws.payload)
    except ValidationError as error:
        names = sorted({str(e["loc"][0]) for e in error.errors(include_input=False) if e["loc"]})
        raise Unauthenticated(
            f"The token lacks a good value of: {', '.join(names)}.",
            hint="Exchange for a new token.",
        ) from None


def _check_times(claims: Mapping[str, object], now: float, max_lifetime_seconds: int) -> float:
    """The expiry, in seconds since the epoch."""
    exp, nbf, iat = (_seconds(claims, name) for name in ("exp", "nbf", "iat"))
    if exp is None:
        raise Unauthenticated("The token has no expiry (exp).")
    if exp <= now:
        raise Unauthenticated("The token has expired.", hint="Sign in, or exchange, again.")
    if nbf is not None and nbf > now + CLOCK_LEEWAY_SECONDS:
        raise Unauthenticated("The token is not valid yet (nbf).")
    if iat is not None and iat > now + CLOCK_LEEWAY_SECONDS:
        raise Unauthenticated("The token is issued in the future (iat).")
    # Without iat its age cannot be known: then what is left of its life counts as the whole.
    if exp - (now if iat is None else iat) > max_lifetime_seconds:
        raise Unauthenticated(
            f"The token lives longer than the {max_lifetime_seconds} s that are allowed.",
            hint="Shorten its life at the issuer, or raise the issuer's maxLifetimeSeconds.",
        )
    return exp


def _seconds(claims: Mapping[str, object], name: str) -> float | None:
    """RFC 7519's NumericDate, which may have a fraction."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated(f"The token's {name} is not a number of seconds.")
    if not 0 <= value <= _LAST_SECOND:
        raise Unauthenticated(f"The token's {name} is out of range.")
    return float(value)
