"""Claims of other issuers' tokens: pure checks, each of which raises Unauthenticated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from tenantplane.core.errors import Unauthenticated
from tenantplane.core.identity.claims import ACCESS_TYP
from tenantplane.core.identity.presets import IssuerRules

# "jwt": either of the two (RFC 8693 section 3).
TokenUse = Literal["access_token", "id_token", "jwt"]

# Anything else is another kind of JWT of the same issuer: logout+jwt, secevent+jwt, dpop+jwt …
_HEADER_TYPES: Final = frozenset({None, "jwt", ACCESS_TYP})
# OpenID Connect Core sections 2 and 3.3.2.11: stand in ID tokens alone.
_ID_TOKEN_CLAIMS: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash"})
# Vendors' own marks: Keycloak's payload `typ`, Amazon Cognito's `token_use`.
_MARKS: Final = ("typ", "token_use")
_ACCESS_MARKS: Final = frozenset({"bearer", "access"})
_ID_MARKS: Final = frozenset({"id"})
_NEUTRAL_MARKS: Final = frozenset({"jwt"})
_LOGOUT_EVENTS: Final = "events"  # OpenID Connect Back-Channel Logout section 2.4

MAX_ROLES: Final = 100
_MAX_TEXT: Final = 255


def check_use(typ: str | None, claims: Mapping[str, object], use: TokenUse) -> None:
    """Refuses another kind of token than the one wanted, as far as it can be told (F2)."""
    if typ not in _HEADER_TYPES or _LOGOUT_EVENTS in claims:
        raise Unauthenticated(f"A token of type {typ!r} is neither access token nor ID token.")
    marks = {str(claims[name]).lower() for name in _MARKS if name in claims}
    if not marks <= _ACCESS_MARKS | _ID_MARKS | _NEUTRAL_MARKS:
        raise Unauthenticated("The token says that it is neither access token nor ID token.")
    is_access = typ == ACCESS_TYP or bool(marks & _ACCESS_MARKS)
    is_id = bool(marks & _ID_MARKS) or (not is_access and bool(_ID_TOKEN_CLAIMS & claims.keys()))
    if is_id and (is_access or use == "access_token"):
        raise Unauthenticated(
            "The token is an ID token, not an access token.",
            hint="Send the access token, or exchange the ID token as what it is.",
        )
    if is_access and use == "id_token":
        raise Unauthenticated("The token is an access token, not an ID token.")


def check_audience(claims: Mapping[str, object], rules: IssuerRules) -> None:
    """By the issuer's own rule: the first of its audience claims that the token has decides."""
    for name in rules.audience_claims:
        if name in claims:
            value = claims[name]
            audiences = value if isinstance(value, list) else [value]
            if rules.audience in audiences and all(isinstance(a, str) for a in audiences):
                return
            break
    raise Unauthenticated(
        f"The token is not for the audience {rules.audience!r}.",
        hint=f"Ask the issuer for a token with that {' or '.join(rules.audience_claims)}.",
    )


def user_of(claims: Mapping[str, object], rules: IssuerRules) -> str:
    value = _claim(claims, rules.user_claim)
    if not isinstance(value, str) or not value or len(value) > _MAX_TEXT:
        raise Unauthenticated(
            f"The token's claim {rules.user_claim!r} does not name a user.",
            hint="The issuer's userClaim in the Tenant manifest says which claim does.",
        )
    if not value.isprintable():
        raise Unauthenticated(f"The token's claim {rules.user_claim!r} has control characters.")
    return value


def roles_of(claims: Mapping[str, object], rules: IssuerRules) -> frozenset[str]:
    """A list of texts, or one text parted by spaces (as `scope` is); none where absent."""
    value = None if rules.roles_claim is None else _claim(claims, rules.roles_claim)
    if value is None:
        return frozenset()
    roles = value.split() if isinstance(value, str) else value
    if not isinstance(roles, list) or len(roles) > MAX_ROLES:
        raise Unauthenticated(
            f"The token's claim {rules.roles_claim!r} is not a list of at most {MAX_ROLES} roles."
        )
    if any(not isinstance(role, str) or not 0 < len(role) <= _MAX_TEXT for role in roles):
        raise Unauthenticated(
            f"The token's claim {rules.roles_claim!r} has a role that is no text."
        )
    return frozenset(roles)


def _claim(claims: Mapping[str, object], name: str) -> object:
    """By its whole name (Auth0's are URLs with dots), else as a path (`realm_access.roles`)."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value
