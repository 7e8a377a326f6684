"""Tokens that must never be believed: each with its fault's id, a name, and how it is made.

They are wrong for an issuer that is configured with the audience of `OidcIssuer`, the roles claim
`roles` and a longest life of 3600 s, where an access token is wanted. Any door that takes such
tokens runs them all.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from tests.fixtures.oidc import FromNow, IssuerKey, OidcIssuer, encode_segment, sign_with_secret

MAX_LIFETIME_SECONDS = 3600
ROLES_CLAIM = "roles"


def _unsigned(issuer: OidcIssuer) -> str:
    header = encode_segment(issuer.header({"alg": "none"}))
    return f"{header}.{encode_segment(issuer.claims())}."


def _public_key_as_secret(issuer: OidcIssuer) -> str:
    return sign_with_secret(
        issuer.key.public_pem(), issuer.header({"alg": "HS256"}), issuer.claims()
    )


def _of_an_attackers_key(issuer: OidcIssuer) -> str:
    return issuer.mint(key=IssuerKey(issuer.key.kid))


def _with_an_attackers_jwk(issuer: OidcIssuer) -> str:
    attacker = IssuerKey(issuer.key.kid)
    return issuer.mint(headers={"jwk": attacker.public_jwk()}, key=attacker)


def _signed_by_another_algorithm_of_the_same_kid(issuer: OidcIssuer) -> str:
    attacker = IssuerKey(issuer.key.kid, "ES256")
    return issuer.mint(headers={"alg": "ES256"}, key=attacker)


def _payload_swapped(issuer: OidcIssuer) -> str:
    header, _, signature = issuer.mint().split(".")
    return f"{header}.{encode_segment(issuer.claims({'sub': 'mallory'}))}.{signature}"


def _duplicate_claim(issuer: OidcIssuer) -> str:
    body = json.dumps(issuer.claims())[:-1] + ', "sub": "mallory"}'
    return issuer.key.sign(issuer.header(), body.encode())


def _duplicate_nested_claim(issuer: OidcIssuer) -> str:
    body = json.dumps(issuer.claims())[:-1] + ', "x": {"y": 1, "y": 2}}'
    return issuer.key.sign(issuer.header(), body.encode())


def _duplicate_header(issuer: OidcIssuer) -> str:
    header = json.dumps(issuer.header())[:-1] + ', "alg": "none"}'
    return issuer.key.sign(header.encode(), issuer.claims())


def _padded(issuer: OidcIssuer) -> str:
    return issuer.mint() + "="


def _foreign_characters(issuer: OidcIssuer) -> str:
    header, payload, signature = issuer.mint().split(".")
    return f"{header}.{payload[:4]}!{payload[4:]}.{signature}"


def _other_spelling_of_the_signature(issuer: OidcIssuer) -> str:
    token = issuer.mint()  # 256 bytes: the last character has four unused bits
    raw = base64.urlsafe_b64decode(token.rsplit(".", 1)[1] + "==")
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        other = token[:-1] + last
        if last != token[-1] and base64.urlsafe_b64decode(other.rsplit(".", 1)[1] + "==") == raw:
            return other
    raise AssertionError("no other spelling")


def _claims(**changes: object) -> Callable[[OidcIssuer], str]:
    return lambda issuer: issuer.mint(changes)


def _headers(**changes: object) -> Callable[[OidcIssuer], str]:
    return lambda issuer: issuer.mint(headers=changes)


Forge = Callable[[OidcIssuer], str]

FORGERIES: list[tuple[str, str, Forge]] = [
    ("F1", "alg none", _unsigned),
    ("F1", "alg None", _headers(alg="None")),
    ("F1", "public key as HMAC secret", _public_key_as_secret),
    ("F1", "alg not on the list", _headers(alg="ES512")),
    ("F1", "alg of another key type", _headers(alg="ES256")),
    ("F1", "no alg", _headers(alg=None)),
    ("F1", "alg no text", _headers(alg=["RS256"])),
    ("F1", "attacker's key, real kid", _of_an_attackers_key),
    ("F1", "attacker's ES256 key, real kid", _signed_by_another_algorithm_of_the_same_kid),
    ("F1", "payload swapped", _payload_swapped),
    ("F2", "iss other", _claims(iss="https://elsewhere.example")),
    ("F2", "iss with slash", lambda issuer: issuer.mint({"iss": issuer.issuer + "/"})),
    ("F2", "iss missing", _claims(iss=None)),
    ("F2", "iss a list", lambda issuer: issuer.mint({"iss": [issuer.issuer]})),
    ("F2", "aud other", _claims(aud="another")),
    ("F2", "aud list of others", _claims(aud=["another", "third"])),
    ("F2", "aud missing", _claims(aud=None)),
    ("F2", "aud a prefix", _claims(aud="tenantplane-tests-2")),
    ("F2", "aud list with no text", _claims(aud=["tenantplane-tests", 1])),
    ("F2", "aud missing, azp fits", _claims(aud=None, azp="tenantplane-tests")),
    ("F2", "typ logout", _headers(typ="logout+jwt")),
    ("F2", "typ no text", _headers(typ=7)),
    ("F2", "back-channel logout", _claims(events={"x": {}})),
    ("F2", "ID token by nonce", _claims(nonce="n")),
    ("F2", "ID token by at_hash", _claims(at_hash="h")),
    ("F2", "ID token of Keycloak", _claims(typ="ID")),
    ("F2", "ID token of Cognito", _claims(token_use="id")),
    ("F2", "refresh token", _claims(typ="Refresh")),
    ("F2", "at+jwt that says ID", lambda i: i.mint({"typ": "ID"}, {"typ": "at+jwt"})),
    ("F2", "no user", _claims(sub=None)),
    ("F2", "empty user", _claims(sub="")),
    ("F2", "user no text", _claims(sub=7)),
    ("F2", "user with a line feed", _claims(sub="alice\nadmin")),
    ("F2", "roles no list", _claims(roles={"admin": True})),
    ("F2", "role no text", _claims(roles=["admin", 7])),
    ("F2", "roles too many", _claims(roles=["r"] * 101)),
    ("F4", "expired", _claims(exp=FromNow(-1))),
    ("F4", "no exp", _claims(exp=None)),
    ("F4", "exp a text", _claims(exp="4000000000")),
    ("F4", "exp true", _claims(exp=True)),
    ("F4", "exp beyond any calendar", _claims(exp=1e300)),
    ("F4", "not yet valid", _claims(nbf=FromNow(200))),
    ("F4", "issued in the future", _claims(iat=FromNow(200))),
    ("F4", "lives too long", _claims(iat=FromNow(0), exp=FromNow(3601))),
    ("F4", "lived too long", _claims(iat=FromNow(-4000), exp=FromNow(300))),
    ("F4", "no iat, lives too long", _claims(iat=None, exp=FromNow(4000))),
    ("F5", "crit", _headers(crit=["exp"])),
    ("F5", "crit empty", _headers(crit=[])),
    ("F5", "b64", _headers(b64=False)),
    ("F5", "zip", _headers(zip="DEF")),
    ("F5", "jku", _headers(jku="https://attacker.example/jwks.json")),
    ("F5", "x5u", _headers(x5u="https://attacker.example/x5u")),
    ("F5", "jwk", _with_an_attackers_jwk),
    ("F5", "claim twice", _duplicate_claim),
    ("F5", "nested claim twice", _duplicate_nested_claim),
    ("F5", "header field twice", _duplicate_header),
    ("F5", "padding", _padded),
    ("F5", "foreign characters", _foreign_characters),
    ("F5", "signature spelt otherwise", _other_spelling_of_the_signature),
    ("F5", "NaN", _claims(x=float("nan"))),
    ("F5", "payload no object", lambda i: i.key.sign(i.header(), b"[]")),
    ("F5", "payload no JSON", lambda i: i.key.sign(i.header(), b"{")),
    ("F5", "payload nested without end", lambda i: i.key.sign(i.header(), b"[" * 9000)),
    ("F5", "oversized", _claims(filler="x" * 16_384)),
    ("F5", "two segments", lambda i: i.mint().rsplit(".", 1)[0]),
    ("F5", "five segments", lambda i: i.mint() + ".a.b"),
    ("F5", "not ASCII", lambda i: "é" + i.mint()),
    ("F5", "empty", lambda _: ""),
    ("F5", "kid unknown", _headers(kid="../../etc/passwd")),
    ("F5", "kid endless", _headers(kid="k" * 300)),
]
