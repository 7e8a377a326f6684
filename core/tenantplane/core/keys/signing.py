"""Signing keys: ES256 (RFC 7518 section 3.4), compact JWS out."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Final, Self

import jwt
import rfc8785
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic_core import to_jsonable_python

from tenantplane.core.errors import ConfigurationRefused
from tenantplane.core.identity.claims import CLIENT_ASSERTION_TYP
from tenantplane.core.identity.client_assertion import MAX_ASSERTION_LIFETIME_SECONDS
from tenantplane.core.identity.keyset import ALGORITHM, KeySet
from tenantplane.core.ids import new_id

_COORDINATE_BYTES: Final = 32


class SigningKey:
    """A P-256 key pair. Its private part leaves only through `to_pem`: wrap that at once."""

    __slots__ = ("_jwk", "_private", "kid")

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        if not isinstance(private.curve, ec.SECP256R1):
            raise ConfigurationRefused(
                f"The signing key is on curve {private.curve.name}, not P-256.",
                hint="Make one with SigningKey.generate().",
            )
        self._private = private
        point = private.public_key().public_numbers()
        coordinates = {
            "crv": "P-256",
            "kty": "EC",
            "x": _base64url(point.x.to_bytes(_COORDINATE_BYTES, "big")),
            "y": _base64url(point.y.to_bytes(_COORDINATE_BYTES, "big")),
        }
        # RFC 7638 section 3: SHA-256 over the required members in lexical order.
        self.kid = _base64url(hashlib.sha256(rfc8785.dumps(coordinates)).digest())
        self._jwk = coordinates | {"kid": self.kid, "alg": ALGORITHM, "use": "sig"}

    @classmethod
    def generate(cls) -> Self:
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Raises ConfigurationRefused where it is no unencrypted P-256 private key."""
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # `from None`: the parser's message may quote what it read.
            raise ConfigurationRefused(
                "The signing key is not an unencrypted PEM private key.",
                hint="Give PKCS#8 PEM of a P-256 key, as SigningKey.to_pem writes it.",
            ) from None
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ConfigurationRefused("The signing key is not an elliptic-curve key.")
        return cls(private)

    def to_pem(self) -> bytes:
        """PKCS#8, in clear."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"

    def public_jwk(self) -> dict[str, str]:
        """RFC 7517, with kid, alg and use."""
        return dict(self._jwk)

    def key_set(self) -> KeySet:
        return KeySet.from_jwk(self._jwk)

    def sign(self, payload: Mapping[str, object], typ: str) -> str:
        """A compact JWS of that type. Datetimes and UUIDs are written as pydantic writes them.

        Raises ValueError for NaN and infinities, which JSON cannot say.
        """
        body = json.dumps(
            to_jsonable_python(dict(payload), inf_nan_mode="constants"),
            allow_nan=False,
            separators=(",", ":"),
        )
        headers = {"typ": typ, "kid": self.kid}
        return jwt.PyJWS().encode(
            body.encode("utf-8"), self._private, algorithm=ALGORITHM, headers=headers
        )


def sign_client_assertion(
    key: SigningKey,
    client_id: str,
    audience: str,
    *,
    now: float | None = None,
    lifetime_seconds: int = MAX_ASSERTION_LIFETIME_SECONDS,
) -> str:
    """`private_key_jwt` (RFC 7523 section 3); `audience` is the issuer's URL. `now` in seconds
    since the epoch, the host's clock by default; `client_assertion.verify` is its other half."""
    issued_at = int(time.time() if now is None else now)
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": issued_at,
        "exp": issued_at + lifetime_seconds,
        "jti": str(new_id()),
    }
    return key.sign(claims, CLIENT_ASSERTION_TYP)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
