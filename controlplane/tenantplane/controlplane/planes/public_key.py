"""A plane's public key as it comes in: checked, reduced to its public members, and named."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

import rfc8785

from tenantplane.core.errors import FieldError, Unprocessable
from tenantplane.core.identity.keyset import KeySet


def public_key(jwk: Mapping[str, str]) -> dict[str, str]:
    """The public members of an ES256 key with its RFC 7638 thumbprint as `kid`.

    Raises Unprocessable; a private key is refused loudly, since it is lost once it was sent.
    """
    wanted = {"kty": "EC", "crv": "P-256"}
    bad = [
        FieldError(f"public_jwk.{name}", f"must be {value!r}")
        for name, value in wanted.items()
        if jwk.get(name) != value
    ]
    if "d" in jwk:
        bad.append(FieldError("public_jwk.d", "never send the private key: make a new pair"))
    bad += [FieldError(f"public_jwk.{n}", "is required") for n in ("x", "y") if not jwk.get(n)]
    if bad:
        raise Unprocessable("The public key cannot be used.", errors=tuple(bad))
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    usable = members | {"kid": thumbprint(members), "alg": "ES256", "use": "sig"}
    _require_on_curve(usable)
    return usable


def thumbprint(members: Mapping[str, str]) -> str:
    """RFC 7638 section 3: SHA-256 over the required members in lexical order."""
    digest = hashlib.sha256(rfc8785.dumps(dict(members))).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _require_on_curve(jwk: Mapping[str, str]) -> None:
    try:
        KeySet.from_jwk(jwk)
    except ValueError:
        raise Unprocessable(
            "The public key cannot be used.",
            errors=(FieldError("public_jwk", "is not a point of P-256"),),
        ) from None
