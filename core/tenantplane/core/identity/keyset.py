"""KeySet: the platform's own public keys, with which snapshots, beacons and own tokens verify."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self

from tenantplane.core.errors import Unauthenticated
from tenantplane.core.identity.jwk import VerificationKey, read_jwks
from tenantplane.core.identity.jws import MAX_DOCUMENT_BYTES, ParsedJws, parse

ALGORITHM: Final = "ES256"


class KeySet:
    """An immutable set of ES256 keys, each with a kid. It never fetches anything."""

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        self._by_kid = {
            key.kid: key for key in keys if key.kid is not None and ALGORITHM in key.algorithms
        }

    @classmethod
    def from_jwks(cls, document: Mapping[str, object]) -> Self:
        """Raises ValueError where the document is no JWKS, or has no ES256 key with a kid."""
        keys = cls(read_jwks(document))
        if not keys._by_kid:
            raise ValueError("the JWKS has no ES256 key with a kid")
        return keys

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, object]) -> Self:
        """A set of one key, such as an enrolled plane's. Raises ValueError like `from_jwks`."""
        return cls.from_jwks({"keys": [dict(jwk)]})

    def to_jwks(self) -> dict[str, object]:
        """RFC 7517 section 5."""
        return {"keys": [dict(key.jwk) for key in self._by_kid.values()]}

    @property
    def kids(self) -> frozenset[str]:
        return frozenset(self._by_kid)

    def verify(
        self, jws: str, typ: str, *, max_bytes: int = MAX_DOCUMENT_BYTES
    ) -> dict[str, object]:
        """The claims of a document signed by one of these keys, and of that type.

        Time, issuer and audience are for the caller: a snapshot has none of them. Raises
        Unauthenticated; for a kid that is not here its code is `unknown_key`.
        """
        return dict(self.verify_parsed(parse(jws, max_bytes=max_bytes), typ).claims)

    def verify_parsed(self, jws: ParsedJws, typ: str) -> ParsedJws:
        if jws.alg != ALGORITHM:
            raise Unauthenticated(f"The signature's algorithm is not {ALGORITHM}.")
        if jws.typ != typ:
            raise Unauthenticated(f"The document's type is {jws.typ!r}, not {typ!r}.")
        if jws.kid is None:
            raise Unauthenticated("The document does not name its key (kid).")
        key = self._by_kid.get(jws.kid)
        if key is None:
            raise Unauthenticated(f"The signing key {jws.kid!r} is not known.", code="unknown_key")
        if not key.verifies(jws):
            raise Unauthenticated("The signature does not verify.")
        return jws
