"""Public keys out of a JWKS (RFC 7517), each tied to the algorithms its type allows.

That tie is what stops an RSA public key from being used as an HMAC secret (RFC 8725 section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tenantplane.core.identity.jws import MAX_KID_CHARACTERS, ParsedJws

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192  # a check with a huge modulus costs more than the request is worth
MAX_KEYS: Final = 100

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
ASYMMETRIC: Final = _RSA | frozenset().union(*_BY_CURVE.values())


@dataclass(frozen=True, slots=True)
class VerificationKey:
    kid: str | None
    algorithms: frozenset[str]
    key: Any = field(repr=False, compare=False)  # pyjwt's type of key differs by algorithm
    jwk: Mapping[str, object] = field(repr=False)  # public members, as published

    def verifies(self, jws: ParsedJws) -> bool:
        if jws.alg not in self.algorithms:
            return False
        return bool(
            jwt.get_algorithm_by_name(jws.alg).verify(jws.signing_input, self.key, jws.signature)
        )


def read_jwks(document: object) -> tuple[VerificationKey, ...]:
    """The usable signing keys of a JWKS document; keys of other kinds are passed over, as RFC
    7517 section 5 asks. Raises ValueError where the document is not a JWKS at all."""
    match document:
        case {"keys": [*entries]} if len(entries) <= MAX_KEYS:
            return tuple(key for entry in entries if (key := _read(entry)) is not None)
    raise ValueError(f"a JWKS is an object with a list 'keys' of at most {MAX_KEYS}")


def candidates(
    keys: Iterable[VerificationKey], kid: str | None, alg: str
) -> tuple[VerificationKey, ...]:
    """The keys that may verify a token. Without a `kid`, only a sole fitting key may: trying
    them all would let any key that was ever published speak for every other."""
    fitting = tuple(k for k in keys if alg in k.algorithms)
    if kid is None:
        return fitting if len(fitting) == 1 else ()
    return tuple(k for k in fitting if k.kid == kid)


def _read(entry: object) -> VerificationKey | None:
    if not isinstance(entry, Mapping) or not _is_public_signing_key(entry):
        return None
    algorithms = _algorithms(entry)
    kid = entry.get("kid")
    if not algorithms or not _is_kid(kid):
        return None
    try:
        # Any algorithm of a type reads the keys of that type alike.
        key = jwt.get_algorithm_by_name(min(algorithms)).from_jwk(dict(entry))
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key, RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return None
    return VerificationKey(
        kid=kid if isinstance(kid, str) else None, algorithms=algorithms, key=key, jwk=dict(entry)
    )


def _is_kid(kid: object) -> bool:
    return kid is None or (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_CHARACTERS)


def _is_public_signing_key(entry: Mapping[str, object]) -> bool:
    if "d" in entry or "k" in entry:  # a published secret key is no one's word
        return False
    if entry.get("use", "sig") != "sig":
        return False
    operations = entry.get("key_ops", ["verify"])
    return isinstance(operations, list) and "verify" in operations


def _algorithms(entry: Mapping[str, object]) -> frozenset[str]:
    if entry.get("kty") == "RSA":
        allowed = _RSA
    else:
        allowed = _BY_CURVE.get((str(entry.get("kty")), str(entry.get("crv"))), frozenset())
    named = entry.get("alg")
    return allowed if named is None else allowed & {str(named)}
