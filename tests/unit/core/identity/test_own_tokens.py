"""Tokens that the control plane issues: what each plane accepts of them."""

from __future__ import annotations

import pytest

from tenantplane.core.errors import Unauthenticated
from tenantplane.core.identity.claims import (
    ACCESS_TYP,
    AUDIENCE_CONTROL_PLANE,
    AUDIENCE_DATA_PLANE,
    AccessClaims,
    PlaneClaims,
)
from tenantplane.core.identity.jwk import read_jwks
from tenantplane.core.identity.jwks import JwksCache
from tenantplane.core.identity.keyset import KeySet
from tenantplane.core.identity.verifier import TokenVerifier, peek_issuer
from tenantplane.core.keys.signing import SigningKey

NOW = 1_800_000_000
ISSUER = "https://control.example"
KEY = SigningKey.generate()

USER = AccessClaims(
    iss=ISSUER,
    aud=AUDIENCE_DATA_PLANE,
    sub="alice",
    exp=NOW + 900,
    iat=NOW,
    jti="1",
    org_id="acme",
    root_org_id="umbrella",
    plan="enterprise",
    region="local",
    plane="shared-1",
    roles=("admin",),
    epoch=3,
)
PLANE = PlaneClaims(
    iss=ISSUER,
    aud=AUDIENCE_CONTROL_PLANE,
    sub="plane:shared-1",
    exp=NOW + 900,
    iat=NOW,
    jti="2",
    plane="shared-1",
    region="local",
)


@pytest.fixture
def verifier() -> TokenVerifier:
    return TokenVerifier(JwksCache(), now=lambda: NOW)


def _user(changes: dict[str, object], typ: str = ACCESS_TYP, key: SigningKey = KEY) -> str:
    claims = USER.model_dump(mode="json") | changes
    return key.sign({k: v for k, v in claims.items() if v is not None}, typ)


def _verify(verifier: TokenVerifier, token: str) -> AccessClaims:
    return verifier.verify_own(token, KEY.key_set(), ISSUER, AUDIENCE_DATA_PLANE)


def test_a_good_token_gives_its_claims(verifier: TokenVerifier) -> None:
    assert _verify(verifier, _user({})) == USER
    assert _verify(verifier, _user({"of_a_newer_version": 1})) == USER
    assert peek_issuer(_user({})) == ISSUER


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"iss": "https://other.example"}, "issuer"),
        ({"aud": AUDIENCE_CONTROL_PLANE}, "audience"),
        ({"aud": [AUDIENCE_DATA_PLANE, "other"]}, "aud"),
        ({"exp": NOW}, "expired"),
        ({"exp": NOW + 901}, "longer than the 900 s"),
        ({"exp": None}, "exp"),
        ({"exp": str(NOW + 10)}, "exp"),
        ({"iat": None}, "iat"),
        ({"iat": NOW + 31, "exp": NOW + 60}, "future"),
        ({"nbf": NOW + 31}, "not valid yet"),
        ({"org_id": None}, "org_id"),
        ({"org_id": "Not A Label"}, "org_id"),
        ({"root_org_id": None}, "root_org_id"),
        ({"epoch": None}, "epoch"),
        ({"epoch": "3"}, "epoch"),
        ({"roles": "admin"}, "roles"),
        ({"jti": ""}, "jti"),
        ({"sub": None}, "sub"),
    ],
)
def test_bad_claims_are_refused(
    verifier: TokenVerifier, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(Unauthenticated, match=says):
        _verify(verifier, _user(changes))


@pytest.mark.parametrize("typ", ["JWT", "id+jwt", "client-authentication+jwt", "tp-snapshot+jwt"])
def test_another_kind_of_jwt_of_the_same_key_is_no_access_token(
    verifier: TokenVerifier, typ: str
) -> None:
    with pytest.raises(Unauthenticated, match="type"):
        _verify(verifier, _user({}, typ))


def test_another_key_and_an_oversized_token_are_refused(verifier: TokenVerifier) -> None:
    with pytest.raises(Unauthenticated):
        _verify(verifier, _user({}, key=SigningKey.generate()))
    with pytest.raises(Unauthenticated, match="longer than"):
        _verify(verifier, _user({"filler": "x" * 16_384}))


def test_a_plane_and_a_user_do_not_pass_for_each_other(verifier: TokenVerifier) -> None:
    keys = KEY.key_set()
    token = KEY.sign(PLANE.model_dump(mode="json"), ACCESS_TYP)
    assert verifier.verify_plane(token, keys, ISSUER, AUDIENCE_CONTROL_PLANE) == PLANE
    with pytest.raises(Unauthenticated):
        verifier.verify_own(token, keys, ISSUER, AUDIENCE_CONTROL_PLANE)
    user = _user({"aud": AUDIENCE_CONTROL_PLANE})
    with pytest.raises(Unauthenticated, match="speak for a plane"):
        verifier.verify_plane(user, keys, ISSUER, AUDIENCE_CONTROL_PLANE)
    posing = KEY.sign(PLANE.model_dump(mode="json") | {"plane": "shared-2"}, ACCESS_TYP)
    with pytest.raises(Unauthenticated, match="speak for a plane"):
        verifier.verify_plane(posing, keys, ISSUER, AUDIENCE_CONTROL_PLANE)


def test_a_weak_rsa_key_is_not_used() -> None:
    modulus = "AQAB" * 43  # 1032 bits
    assert read_jwks({"keys": [{"kty": "RSA", "n": modulus, "e": "AQAB", "kid": "weak"}]}) == ()


def test_a_key_set_of_rsa_keys_verifies_no_own_token() -> None:
    strong = "AQAB" * 86  # 2064 bits
    jwks: dict[str, object] = {"keys": [{"kty": "RSA", "n": strong, "e": "AQAB", "kid": KEY.kid}]}
    assert read_jwks(jwks)
    with pytest.raises(ValueError, match="no ES256 key"):
        KeySet.from_jwks(jwks)
