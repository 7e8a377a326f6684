"""A caller that was proven once is proven again as soon as anything that it stands on changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tenantplane.core.apis.snapshot import ApiKeyGrant, Beacon, Level, Snapshot
from tenantplane.core.errors import (
    DependencyUnavailable,
    Forbidden,
    OfflineTooLong,
    StaleClaims,
    Suspended,
    Unauthenticated,
    WrongPlane,
)
from tenantplane.core.identity.claims import AUDIENCE_DATA_PLANE, AccessClaims
from tenantplane.dataplane.gate.entitlements import Entitlements, HeardBeacon
from tenantplane.dataplane.gate.identity import Identity, PlaneProfile

START = datetime(2026, 2, 1, tzinfo=UTC)
TOKEN = [(b"authorization", b"Bearer a-token")]
SECRET = "tpk_" + "s" * 43
KEY = [(b"x-api-key", SECRET.encode())]


def api_key(expires_at: datetime | None) -> ApiKeyGrant:
    hashed = hashlib.sha256(SECRET.encode()).hexdigest()
    return ApiKeyGrant(key_id="k1", sha256_hex=hashed, user_id="robot", expires_at=expires_at)


class Keys:
    """TrustedKeys of one generation; a check passes and is counted."""

    def __init__(self) -> None:
        self.generation = 1
        self.checks = 0

    async def verified(self, check: Callable[[object], AccessClaims]) -> AccessClaims:
        self.checks += 1
        return check(self)


class Verifier:
    def verify_own(self, token: str, *_: object) -> AccessClaims:
        if token != "a-token":
            raise Unauthenticated("no such token")
        return AccessClaims(
            iss="https://cp.example",
            aud=AUDIENCE_DATA_PLANE,
            sub="alice",
            exp=int(START.timestamp()) + 600,
            iat=1,
            jti="j",
            org_id="acme",
            root_org_id="acme",
            plan="starter",
            region="local",
            plane="p1",
            epoch=0,
        )


class Plane:
    def __init__(self) -> None:
        self.time = START
        self.keys = Keys()
        self.profile = PlaneProfile("p1", "local", "https://cp.example")
        self.isolated = True
        self.entitlements = Entitlements(lambda: self.time, self._require)
        self.identity = Identity(
            self.profile,
            self.entitlements,
            self.keys,  # type: ignore[arg-type]
            Verifier(),  # type: ignore[arg-type]
            lambda: self.time,
        )
        self._version = 0
        self.hear()
        self.install()

    def _require(self) -> None:
        if not self.isolated:
            raise DependencyUnavailable("not isolated")

    def hear(self) -> None:
        sequence = int(self.time.timestamp())
        beacon = Beacon(
            plane="p1", sequence=sequence, issued_at=self.time, orgs=1, versions_sha256=""
        )
        self.entitlements.hear(HeardBeacon(beacon, self.time))

    def install(self, **changed: Any) -> None:
        self._version += 1
        fields: dict[str, Any] = {
            "org_id": "acme",
            "root_org_id": "acme",
            "version": self._version,
            "issued_at": START,
            "status": "active",
            "plane": "p1",
            "region": "local",
            "plan": "starter",
            "token_epoch": 0,
            "max_offline_seconds": 900,
            "price_book_version": 1,
            "levels": (Level(kind="org", id="acme"),),
            "api_keys": (api_key(START + timedelta(seconds=300)),),
        }
        self.entitlements.install(Snapshot.model_validate(fields | changed))


@pytest.fixture
def plane() -> Plane:
    return Plane()


@pytest.mark.parametrize(("headers", "user"), [(TOKEN, "alice"), (KEY, "robot")])
async def test_a_warm_caller_is_the_same_one(
    plane: Plane, headers: list[tuple[bytes, bytes]], user: str
) -> None:
    first = await plane.identity.tenant(headers)
    assert first.context.user_id == user
    assert first.subject == {"org_id": "acme", "user_id": user}
    assert await plane.identity.tenant(headers) is first
    assert plane.keys.checks == (1 if headers is TOKEN else 0)


@pytest.mark.parametrize("headers", [TOKEN, KEY])
async def test_a_new_snapshot_is_served_by_at_once_and_no_signature_checked_again(
    plane: Plane, headers: list[tuple[bytes, bytes]]
) -> None:
    first = await plane.identity.tenant(headers)
    plane.install(tools=("search",))
    second = await plane.identity.tenant(headers)
    assert (first.snapshot.version, second.snapshot.version) == (1, 2)
    assert plane.keys.checks == (1 if headers is TOKEN else 0)


@pytest.mark.parametrize("headers", [TOKEN, KEY])
async def test_suspension_and_a_failed_check_refuse_a_warm_caller(
    plane: Plane, headers: list[tuple[bytes, bytes]]
) -> None:
    await plane.identity.tenant(headers)
    plane.install(levels=(Level(kind="umbrella", id="up", suspended=True),))
    with pytest.raises(Suspended):
        await plane.identity.tenant(headers)
    plane.install()
    await plane.identity.tenant(headers)
    plane.isolated = False
    with pytest.raises(DependencyUnavailable, match="not isolated"):
        await plane.identity.tenant(headers)


async def test_silence_refuses_a_warm_caller(plane: Plane) -> None:
    plane.install(api_keys=(api_key(expires_at=None),))
    plane.time = START + timedelta(seconds=900)
    await plane.identity.tenant(KEY)
    plane.time = START + timedelta(seconds=901)
    with pytest.raises(OfflineTooLong):
        await plane.identity.tenant(KEY)
    plane.hear()
    await plane.identity.tenant(KEY)


async def test_a_deleted_org_is_not_served_here(plane: Plane) -> None:
    await plane.identity.tenant(TOKEN)
    plane.install(status="deleted")
    with pytest.raises(WrongPlane):
        await plane.identity.tenant(TOKEN)


async def test_an_expired_token_is_verified_again(plane: Plane) -> None:
    await plane.identity.tenant(TOKEN)
    plane.time = START + timedelta(seconds=600)
    await plane.identity.tenant(TOKEN)
    assert plane.keys.checks == 2


async def test_new_keys_verify_again(plane: Plane) -> None:
    await plane.identity.tenant(TOKEN)
    plane.keys.generation = 2
    await plane.identity.tenant(TOKEN)
    assert plane.keys.checks == 2


async def test_a_plane_that_moved_serves_no_warm_caller(plane: Plane) -> None:
    await plane.identity.tenant(TOKEN)
    plane.profile.region = "mars"
    with pytest.raises(WrongPlane):
        await plane.identity.tenant(TOKEN)


@pytest.mark.parametrize("changed", [{"token_epoch": 1}, {"plan": "other"}])
async def test_stale_claims_are_seen_in_a_warm_caller(
    plane: Plane, changed: dict[str, Any]
) -> None:
    await plane.identity.tenant(TOKEN)
    plane.install(**changed)
    with pytest.raises(StaleClaims):
        await plane.identity.tenant(TOKEN)


async def test_a_key_ends_with_its_time_and_with_its_revocation(plane: Plane) -> None:
    await plane.identity.tenant(KEY)
    plane.install(api_keys=())
    with pytest.raises(Unauthenticated, match="unknown here or revoked"):
        await plane.identity.tenant(KEY)
    plane.install()
    await plane.identity.tenant(KEY)
    plane.time = START + timedelta(seconds=300)
    with pytest.raises(Unauthenticated, match="has expired"):
        await plane.identity.tenant(KEY)


async def test_a_warm_caller_names_no_other_org(plane: Plane) -> None:
    await plane.identity.tenant(TOKEN)
    with pytest.raises(Forbidden):
        await plane.identity.tenant([*TOKEN, (b"x-org-id", b"globex")])


async def test_nothing_malformed_becomes_known_by_another_field(plane: Plane) -> None:
    await plane.identity.tenant(TOKEN)
    with pytest.raises(Unauthenticated, match="malformed"):
        await plane.identity.tenant([(b"x-api-key", b"Bearer a-token")])
