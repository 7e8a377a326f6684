"""Signed documents: what one key signs, its key set alone believes."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tenantplane.core.errors import ConfigurationRefused, Unauthenticated
from tenantplane.core.identity.client_assertion import verify_client_assertion
from tenantplane.core.identity.keyset import KeySet
from tenantplane.core.keys.signing import SigningKey, sign_client_assertion

TYP = "tp-test+jwt"
ISSUER = "https://control.example"


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


def test_a_document_comes_back_as_it_was_signed(key: SigningKey) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    jws = key.sign({"at": moment, "id": UUID(int=7), "n": 2**60, "of": ("é", None)}, TYP)
    assert key.key_set().verify(jws, TYP) == {
        "at": "2026-01-02T03:04:05Z",
        "id": str(UUID(int=7)),
        "n": 2**60,
        "of": ["é", None],
    }


def test_another_library_verifies_it_too(key: SigningKey) -> None:
    public = jwt.PyJWK(dict(key.public_jwk()))
    claims = jwt.decode(key.sign({"sub": "x"}, TYP), public, algorithms=["ES256"])
    assert claims == {"sub": "x"}


def test_a_snapshot_may_be_larger_than_a_token(key: SigningKey) -> None:
    jws = key.sign({"filler": "x" * 100_000}, TYP)
    assert key.key_set().verify(jws, TYP)
    with pytest.raises(Unauthenticated, match="longer than 16384 bytes"):
        key.key_set().verify(jws, TYP, max_bytes=16_384)


def test_nan_is_not_signed(key: SigningKey) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        key.sign({"n": float("nan")}, TYP)


def test_the_kid_is_the_thumbprint_of_rfc_7638(key: SigningKey) -> None:
    again = SigningKey.from_pem(key.to_pem())
    assert again.public_jwk() == key.public_jwk()
    assert len(key.kid) == 43
    assert SigningKey.generate().kid != key.kid
    assert "d" not in key.public_jwk()
    assert "PRIVATE" not in repr(key)


def test_a_key_set_survives_its_jwks(key: SigningKey) -> None:
    other = SigningKey.generate()
    keys = KeySet.from_jwks({"keys": [key.public_jwk(), other.public_jwk()]})
    again = KeySet.from_jwks(json.loads(json.dumps(keys.to_jwks())))
    assert again.kids == {key.kid, other.kid}
    assert again.verify(other.sign({"a": 1}, TYP), TYP) == {"a": 1}


def test_an_unknown_key_is_told_apart_so_that_the_jwks_can_be_asked_again(key: SigningKey) -> None:
    stranger = SigningKey.generate()
    with pytest.raises(Unauthenticated, match=stranger.kid) as refused:
        key.key_set().verify(stranger.sign({}, TYP), TYP)
    assert refused.value.error_code == "unknown_key"


def test_a_document_of_another_type_is_refused(key: SigningKey) -> None:
    with pytest.raises(Unauthenticated, match="type"):
        key.key_set().verify(key.sign({}, "tp-other+jwt"), TYP)


@pytest.mark.parametrize("header", [{"typ": TYP}, {"typ": TYP, "kid": "KID", "crit": ["x"]}])
def test_a_header_without_kid_or_with_crit_is_refused(
    key: SigningKey, header: dict[str, object]
) -> None:
    header = {k: key.kid if v == "KID" else v for k, v in header.items()}
    jws = jwt.encode({}, key.to_pem(), algorithm="ES256", headers=header)
    with pytest.raises(Unauthenticated):
        key.key_set().verify(jws, TYP)


def test_every_changed_character_is_noticed(key: SigningKey) -> None:
    jws = key.sign({"org_id": "acme"}, TYP)
    keys = key.key_set()
    for position in range(len(jws)):
        changed = jws[:position] + ("A" if jws[position] != "A" else "B") + jws[position + 1 :]
        with pytest.raises(Unauthenticated):
            keys.verify(changed, TYP)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"keys": {}},
        {"keys": []},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "a"}]},
        {"keys": [{"kty": "EC"}] * 101},
        {"keys": ["key"]},
    ],
)
def test_a_jwks_without_a_usable_key_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="JWKS"):
        KeySet.from_jwks(document)


@pytest.mark.parametrize(
    "change", [{"use": "enc"}, {"alg": "ES384"}, {"key_ops": ["sign"]}, {"d": "AA"}, {"kid": None}]
)
def test_a_key_for_another_purpose_does_not_verify(
    key: SigningKey, change: dict[str, object]
) -> None:
    jwk = {k: v for k, v in {**key.public_jwk(), **change}.items() if v is not None}
    with pytest.raises(ValueError, match="no ES256 key"):
        KeySet.from_jwk(jwk)


def test_a_published_private_key_does_not_verify() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = jwt.get_algorithm_by_name("ES256").to_jwk(private, as_dict=True)
    with pytest.raises(ValueError, match="no ES256 key"):
        KeySet.from_jwk({"kid": "leaked", **{k: v for k, v in jwk.items() if k != "key_ops"}})


def _pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_other_keys_are_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationRefused, match="P-256"):
        SigningKey.from_pem(_pem(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(ConfigurationRefused, match="elliptic"):
        SigningKey.from_pem(_pem(rsa.generate_private_key(65537, 2048)))
    with pytest.raises(ConfigurationRefused, match="PKCS#8"):
        SigningKey.from_pem(b"not a key: hunter2")


class TestClientAssertion:
    def test_a_good_one_names_what_to_remember(self, key: SigningKey) -> None:
        now = time.time()
        assertion = sign_client_assertion(key, "plane:one", ISSUER, now=now)
        known = verify_client_assertion(assertion, key.key_set(), "plane:one", ISSUER, now=now)
        assert known.jti
        assert known.expires_at.timestamp() == int(now) + 60
        again = sign_client_assertion(key, "plane:one", ISSUER, now=now)
        other = verify_client_assertion(again, key.key_set(), "plane:one", ISSUER, now=now)
        assert other.jti != known.jti

    @pytest.mark.parametrize(
        ("client_id", "audience", "elapsed", "says"),
        [
            ("plane:two", ISSUER, 0, "client_id"),
            ("plane:one", "https://other.example", 0, "audience"),
            ("plane:one", ISSUER, 60, "expired"),
            ("plane:one", ISSUER, -31, "future"),
        ],
    )
    def test_another_client_audience_or_time_is_refused(
        self, key: SigningKey, client_id: str, audience: str, elapsed: int, says: str
    ) -> None:
        assertion = sign_client_assertion(key, "plane:one", ISSUER, now=1_800_000_000)
        with pytest.raises(Unauthenticated, match=says):
            verify_client_assertion(
                assertion, key.key_set(), client_id, audience, now=1_800_000_000 + elapsed
            )

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"exp": 1_800_000_061}, "longer than 60 s"),
            ({"jti": None}, "jti"),
            ({"jti": ""}, "jti"),
            ({"exp": None}, "exp"),
            ({"iat": None}, "iat"),
            ({"aud": [ISSUER]}, "aud"),
            ({"exp": "1800000060"}, "exp"),
            ({"sub": "plane:two"}, "client_id"),
            ({"iss": "plane:two"}, "client_id"),
        ],
    )
    def test_bad_claims_are_refused(
        self, key: SigningKey, change: dict[str, object], says: str
    ) -> None:
        claims: dict[str, object] = {
            "iss": "plane:one",
            "sub": "plane:one",
            "aud": ISSUER,
            "iat": 1_800_000_000,
            "exp": 1_800_000_060,
            "jti": "j",
        }
        changed = {k: v for k, v in (claims | change).items() if v is not None}
        assertion = key.sign(changed, "client-authentication+jwt")
        with pytest.raises(Unauthenticated, match=says):
            verify_client_assertion(
                assertion, key.key_set(), "plane:one", ISSUER, now=1_800_000_000
            )

    def test_another_planes_key_and_another_kind_of_jwt_are_refused(self, key: SigningKey) -> None:
        assertion = sign_client_assertion(SigningKey.generate(), "plane:one", ISSUER)
        with pytest.raises(Unauthenticated):
            verify_client_assertion(assertion, key.key_set(), "plane:one", ISSUER)
        with pytest.raises(Unauthenticated, match="type"):
            verify_client_assertion(key.sign({}, "at+jwt"), key.key_set(), "plane:one", ISSUER)
