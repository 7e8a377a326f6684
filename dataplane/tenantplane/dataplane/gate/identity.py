"""Who a request is from: an API key or an access token becomes a tenant, or a refusal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.errors import (
    DependencyUnavailable,
    NotFound,
    StaleClaims,
    TenantplaneError,
    Unauthenticated,
    WrongPlane,
)
from tenantplane.core.identity.claims import AUDIENCE_DATA_PLANE, AccessClaims
from tenantplane.core.identity.verifier import TokenVerifier
from tenantplane.core.ids import API_KEY_PREFIX
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.credentials import (
    Headers,
    credential_field,
    require_same_org,
    secret_of,
)
from tenantplane.dataplane.gate.entitlements import Entitlements
from tenantplane.dataplane.gate.request import RequestTenant
from tenantplane.dataplane.gate.token_cache import TokenCache, cache_key
from tenantplane.dataplane.gate.trust import TrustedKeys

_RETRY_BEHIND_SECONDS = 1.0
# How long an API key's caller is kept: one that is used no more keeps no old snapshot for longer.
_KEPT_SECONDS = 900.0


@dataclass(slots=True)
class PlaneProfile:
    """This plane's name, and what enrolment told it: region, and the issuer of its tokens."""

    plane: str
    region: str | None = None
    issuer: str | None = None

    def issuer_or_unsynced(self) -> str:
        if self.issuer is None:
            raise DependencyUnavailable(
                "This plane has not enrolled at its control plane yet.",
                code="plane_not_synced",
                retry_after_seconds=2,
            )
        return self.issuer


class Identity:
    """Step 1 and 2 of a request. No hop when warm: one hash, dictionaries, and the database's clock
    by its offset.

    Two things are kept by the credential: a token's verified claims, which hold under any snapshot,
    and the caller, who holds under the one that it was derived from."""

    def __init__(
        self,
        profile: PlaneProfile,
        entitlements: Entitlements,
        keys: TrustedKeys,
        verifier: TokenVerifier,
        now: Callable[[], datetime],
    ) -> None:
        self._profile = profile
        self._entitlements = entitlements
        self._keys = keys
        self._verifier = verifier
        self._now = now
        self._claims_of: TokenCache[AccessClaims] = TokenCache()
        self._callers: TokenCache[RequestTenant] = TokenCache()

    async def tenant(self, headers: Headers) -> RequestTenant:
        """The verified caller and the snapshot that serves it.

        Raises Unauthenticated, StaleClaims (401), Suspended, Forbidden (403), NotFound (404),
        WrongPlane (421), DependencyUnavailable, OfflineTooLong (503).
        """
        field = credential_field(headers)
        key, now_unix = cache_key(field), self._now().timestamp()
        tenant = self._callers.get(key, under=self._trust(), now_unix=now_unix)
        if tenant is None or not self._is_current(tenant):
            tenant = await self._proven(key, secret_of(field), now_unix)
        require_same_org(headers, tenant.context.org_id)
        return tenant

    def _trust(self) -> object:
        """What a proof holds under, beside the snapshot: it is made again when this changes."""
        return self._keys.generation, self._profile.region

    def _is_current(self, tenant: RequestTenant) -> bool:
        """Whether its snapshot is in force and serves; why it does not, a new proof says."""
        try:
            return self._entitlements.current(tenant.context.org_id) is tenant.snapshot
        except TenantplaneError:
            return False

    async def _proven(self, key: bytes, secret: str, now_unix: float) -> RequestTenant:
        self._entitlements.require_synced()
        ends_unix = now_unix + _KEPT_SECONDS
        if secret.startswith(API_KEY_PREFIX):
            tenant, expires_at = self._by_key(secret)
            if expires_at is not None:
                ends_unix = min(ends_unix, expires_at.timestamp())
        else:
            claims = await self._claims(key, secret, now_unix)
            tenant, ends_unix = self._by_claims(claims), claims.exp
        self._callers.put(key, tenant, under=self._trust(), ends_unix=ends_unix, now_unix=now_unix)
        return tenant

    def _by_key(self, secret: str) -> tuple[RequestTenant, datetime | None]:
        """The caller, and when its key expires."""
        owner = self._entitlements.key_owner(hashlib.sha256(secret.encode()).hexdigest())
        if owner is None:
            raise Unauthenticated(
                "The API key is unknown here or revoked.",
                hint="A key that was just made is known within a second.",
                code="unknown_api_key",
            )
        org_id, grant = owner
        if grant.expires_at is not None and grant.expires_at <= self._now():
            raise Unauthenticated(
                f"The API key {grant.key_id} has expired.",
                hint="Make another one.",
                code="api_key_expired",
            )
        snapshot = self._entitlements.current(org_id)
        context = TenantContext(
            org_id=org_id,
            root_org_id=snapshot.root_org_id,
            principal=f"key:{grant.key_id}",
            user_id=grant.user_id,
            plan=snapshot.plan,
            region=snapshot.region,
            roles=frozenset(grant.roles),
            key_id=grant.key_id,
            scopes=None if grant.scopes is None else frozenset(grant.scopes),
        )
        return self._request(context, snapshot), grant.expires_at

    async def _claims(self, key: bytes, token: str, now_unix: float) -> AccessClaims:
        cached = self._claims_of.get(key, under=self._keys.generation, now_unix=now_unix)
        if cached is not None:
            return cached
        issuer = self._profile.issuer_or_unsynced()
        claims = await self._keys.verified(
            lambda keys: self._verifier.verify_own(token, keys, issuer, AUDIENCE_DATA_PLANE)
        )
        self._claims_of.put(
            key, claims, under=self._keys.generation, ends_unix=claims.exp, now_unix=now_unix
        )
        return claims

    def _by_claims(self, claims: AccessClaims) -> RequestTenant:
        self._require_my_plane(claims)
        try:
            snapshot = self._entitlements.current(claims.org_id)
        except NotFound:
            raise WrongPlane(
                f"Org {claims.org_id!r} is not served by plane {self._profile.plane!r}.",
                hint="Exchange the token again: the new one names the org's plane.",
            ) from None
        _require_current(claims, snapshot)
        context = TenantContext(
            org_id=claims.org_id,
            root_org_id=snapshot.root_org_id,
            principal=f"user:{claims.sub}",
            user_id=claims.sub,
            plan=snapshot.plan,
            region=snapshot.region,
            roles=frozenset(claims.roles),
        )
        return self._request(context, snapshot)

    def _request(self, context: TenantContext, snapshot: Snapshot) -> RequestTenant:
        return RequestTenant(context, snapshot, partial(self._entitlements.standing, context))

    def _require_my_plane(self, claims: AccessClaims) -> None:
        mine = self._profile
        if claims.plane != mine.plane or claims.region != mine.region:
            raise WrongPlane(
                f"Org {claims.org_id!r} is served by plane {claims.plane!r} in region"
                f" {claims.region!r}, and this is plane {mine.plane!r}.",
                hint="Call the org's own host name.",
                plane=claims.plane or "",
                region=claims.region,
            )


def _require_current(claims: AccessClaims, snapshot: Snapshot) -> None:
    """A token says what its org was when it was made; the snapshot says what it is."""
    if claims.epoch > snapshot.token_epoch:
        raise DependencyUnavailable(
            "The access token is newer than this plane's entitlements.",
            hint="Try again in a second.",
            code="snapshot_behind",
            retry_after_seconds=_RETRY_BEHIND_SECONDS,
        )
    if claims.epoch < snapshot.token_epoch or claims.plan != snapshot.plan:
        raise StaleClaims(
            "The org's plan or token epoch has changed since the token was made.",
            hint="Exchange the token again.",
        )
