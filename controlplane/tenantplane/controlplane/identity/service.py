"""Who is calling, and tokens: `private_key_jwt` of planes (RFC 7523), exchange (RFC 8693)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.identity import repository
from tenantplane.controlplane.identity.schemas import ACCESS_TOKEN_TYPE, TokenAnswer
from tenantplane.controlplane.planes.schemas import PlaneRow
from tenantplane.controlplane.registry.schemas import OrgStanding
from tenantplane.controlplane.security import security_event
from tenantplane.core.apis.tenant import OIDCIssuer
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.errors import Forbidden, Suspended, Unauthenticated
from tenantplane.core.identity.claims import (
    ACCESS_TYP,
    AUDIENCE_CONTROL_PLANE,
    AUDIENCE_DATA_PLANE,
    PLANE_SUBJECT_PREFIX,
    AccessClaims,
    PlaneClaims,
)
from tenantplane.core.identity.client_assertion import verify_client_assertion
from tenantplane.core.identity.external_claims import TokenUse
from tenantplane.core.identity.jwks import JwksCache
from tenantplane.core.identity.jws import parse
from tenantplane.core.identity.keyset import KeySet
from tenantplane.core.identity.presets import generic_oidc
from tenantplane.core.identity.verifier import ExternalIdentity, TokenVerifier
from tenantplane.core.ids import API_KEY_PREFIX, new_id
from tenantplane.core.keys.signing import SigningKey

# Claims with which an IdP might say which org a token is for.
_ORG_CLAIMS: Final = ("org_id",)
_MUST_AGREE: Final = ("plan", "region")

TOKEN_USES: Final[dict[str, TokenUse]] = {
    "urn:ietf:params:oauth:token-type:jwt": "jwt",
    "urn:ietf:params:oauth:token-type:access_token": "access_token",
    "urn:ietf:params:oauth:token-type:id_token": "id_token",
}


@dataclass(frozen=True, slots=True)
class OrgIssuer:
    """An issuer as one org has it."""

    org_id: str
    rules: OIDCIssuer


class Identity:
    """Verifies callers and issues tokens. Fetches of other issuers' keys hold no transaction."""

    def __init__(
        self,
        *,
        issuer: str,
        signer: SigningKey,
        keys: KeySet,
        clock: DatabaseClock,
        jwks: JwksCache,
        access_token_seconds: int,
    ) -> None:
        self.issuer = issuer
        self.keys = keys
        self._signer = signer
        self._clock = clock
        self._verifier = TokenVerifier(jwks, now=clock.unix)
        self._access_token_seconds = access_token_seconds

    async def require_platform_key(self, cursor: Cursor, bearer: str) -> str:
        """The key's name. Raises Unauthenticated, or Forbidden for a good key of another kind."""
        holder = await repository.holder_of_key(cursor, bearer)
        if holder.kind == "unknown":
            raise Unauthenticated("The key is not known, or was revoked.")
        if holder.kind == "org":
            raise Forbidden(
                "This is a tenant's key; the registry takes the platform's.",
                code="platform_key_required",
            )
        return holder.name

    def require_plane(self, bearer: str) -> PlaneClaims:
        """Raises Unauthenticated."""
        return self._verifier.verify_plane(bearer, self.keys, self.issuer, AUDIENCE_CONTROL_PLANE)

    def refuse_other_bearer(self, bearer: str) -> None:
        """For a route of the platform: raises Forbidden where a good plane token was sent, and
        Unauthenticated for whatever else is no key at all."""
        if bearer.startswith(API_KEY_PREFIX):
            return
        self.require_plane(bearer)
        raise Forbidden(
            "This is a plane's token; the registry takes the platform's key.",
            code="platform_key_required",
        )

    async def plane_token(
        self, cursor: Cursor, plane: PlaneRow | None, client_id: str, assertion: str
    ) -> TokenAnswer:
        """A token for a plane that proved its key. Raises Unauthenticated; a second use of one
        assertion is a security event."""
        if plane is None or plane.public_jwk is None:
            raise Unauthenticated(
                f"The client {client_id!r} is not enrolled.",
                hint="Enrol the plane first: POST /v1/planes/<name>/enroll.",
            )
        verified = verify_client_assertion(
            assertion,
            KeySet.from_jwk(plane.public_jwk),
            client_id,
            self.issuer,
            now=self._clock.unix(),
        )
        if not await repository.use_assertion(cursor, client_id, verified.jti, verified.expires_at):
            security_event("client_assertion_replayed", client_id=client_id)
            raise Unauthenticated(
                "The client assertion was used already.", hint="Sign a new one for each request."
            )
        return self._plane_answer(plane)

    async def verify_subject(
        self, token: str, issuer: OrgIssuer, use: TokenUse
    ) -> ExternalIdentity:
        """A token of an org's own issuer, which can assert that org alone (R12, F3).

        Raises Unauthenticated, DependencyUnavailable. Not inside a transaction: it may fetch.
        """
        identity = await self._verifier.verify_external(token, generic_oidc(issuer.rules), use)
        for name in _ORG_CLAIMS:
            claimed = identity.claims.get(name)
            if claimed is not None and claimed != issuer.org_id:
                security_event(
                    "issuer_asserted_other_org", org_id=issuer.org_id, issuer=identity.issuer
                )
                raise Unauthenticated(
                    f"The issuer speaks for {issuer.org_id!r} alone, and the token names another "
                    "org.",
                    code="issuer_asserted_other_org",
                )
        return identity

    def user_token(self, identity: ExternalIdentity, org: OrgStanding) -> TokenAnswer:
        """An access token for the data planes; it never outlives the token it was exchanged for.

        Raises Suspended, Unauthenticated (a claim that disagrees), Forbidden (no plane yet).
        """
        if org.status == "suspended":
            raise Suspended(f"Tenant {org.org_id!r} is suspended.")
        if org.status == "deleted":
            raise Unauthenticated("The issuer speaks for no tenant.")
        for name in _MUST_AGREE:
            claimed = identity.claims.get(name)
            if claimed is not None and claimed != getattr(org, name):
                raise Unauthenticated(
                    f"The token's {name} is not the tenant's.",
                    hint=f"The tenant's {name} is {getattr(org, name)!r}: sign in again, or "
                    "correct the claim at the issuer.",
                    code="claim_disagrees",
                )
        if org.plane is None:
            raise Forbidden(
                f"Tenant {org.org_id!r} has no data plane yet.",
                hint="Register a plane in its region.",
                code="no_plane",
            )
        now = int(self._clock.unix())
        expires = min(now + self._access_token_seconds, int(identity.expires_at.timestamp()))
        if expires <= now:
            raise Unauthenticated("The token has expired.", hint="Sign in again.")
        claims = AccessClaims(
            iss=self.issuer,
            aud=AUDIENCE_DATA_PLANE,
            sub=identity.user_id,
            exp=expires,
            iat=now,
            jti=str(new_id()),
            org_id=org.org_id,
            root_org_id=org.root_org_id,
            plan=org.plan,
            region=org.region,
            plane=org.plane,
            roles=tuple(sorted(identity.roles)),
            epoch=org.token_epoch,
        )
        return TokenAnswer(
            access_token=self._signer.sign(claims.model_dump(mode="json"), ACCESS_TYP),
            expires_in=expires - now,
            issued_token_type=ACCESS_TOKEN_TYPE,
        )

    def _plane_answer(self, plane: PlaneRow) -> TokenAnswer:
        now = int(self._clock.unix())
        claims = PlaneClaims(
            iss=self.issuer,
            aud=AUDIENCE_CONTROL_PLANE,
            sub=PLANE_SUBJECT_PREFIX + plane.name,
            exp=now + self._access_token_seconds,
            iat=now,
            jti=str(new_id()),
            plane=plane.name,
            region=plane.region,
        )
        return TokenAnswer(
            access_token=self._signer.sign(claims.model_dump(mode="json"), ACCESS_TYP),
            expires_in=self._access_token_seconds,
        )


def audiences_of(token: str) -> frozenset[str]:
    """The `aud` of a token that is NOT verified: to choose the rules to verify it with."""
    value = parse(token).claims.get("aud")
    values = value if isinstance(value, list) else [value]
    return frozenset(v for v in values if isinstance(v, str))


def choose_issuer(
    candidates: list[OrgIssuer], audiences: frozenset[str], org: str | None
) -> OrgIssuer:
    """The one org that a token may speak for: by the audience it carries, and by `org` where the
    caller names it. `audiences` comes from a token that is not verified yet: it only chooses which
    rules to verify with.

    Raises Unauthenticated where it is none or several.
    """
    fitting = [
        issuer
        for issuer in candidates
        if issuer.rules.audience in audiences and org in (None, issuer.org_id)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise Unauthenticated(
            "No tenant has this issuer with the token's audience.",
            hint="The tenant's manifest lists it under identity.issuers.",
            code="unknown_issuer",
        )
    raise Unauthenticated(
        "The token's audiences fit several tenants.",
        hint="Name the tenant in the form field 'org'.",
        code="ambiguous_issuer",
    )
