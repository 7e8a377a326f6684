"""Compact JWS (RFC 7515 section 3.1), parsed once and strictly, before any key is looked up.

One parser for all tokens and signed documents: what is verified is what is read. pyjwt's own
decoder keeps the last of two equal claims and hands the header out unchecked, so only its
signature algorithms are used here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from tenantplane.core.errors import Unauthenticated

MAX_TOKEN_BYTES: Final = 16 * 1024
# A snapshot carries the hashes of all of an org's API keys.
MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
MAX_KID_CHARACTERS: Final = 256

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)

# Each lets the signer of a token choose the key it is verified with (RFC 8725 section 3.10).
_KEY_CHOOSING: Final = frozenset({"jku", "x5u", "jwk"})
# RFC 7797: turns the payload into something else than base64url.
_REFUSED_HEADERS: Final = _KEY_CHOOSING | {"crit", "b64", "zip"}


@dataclass(frozen=True, slots=True)
class ParsedJws:
    """Read, not verified: nothing in it may be believed before a signature check."""

    alg: str
    typ: str | None  # lower-case, without the "application/" that RFC 7515 section 4.1.9 allows
    kid: str | None
    payload: bytes = field(repr=False)
    claims: Mapping[str, object] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse(token: str, *, max_bytes: int = MAX_TOKEN_BYTES) -> ParsedJws:
    """Raises Unauthenticated: oversized, not three segments, bad base64url, not JSON objects,
    a name twice in one object, `crit`, or a header that chooses the key."""
    if len(token) > max_bytes:
        raise Unauthenticated(
            f"The token is longer than {max_bytes} bytes.",
            hint="Ask the issuer to leave out claims that are not needed.",
        )
    segments = token.split(".")
    if len(segments) != 3:
        raise Unauthenticated("The token is not a signed JWT of three segments (RFC 7515).")
    header = _json_object(_segment(segments[0], "header"), "header")
    _refuse_headers(header)
    payload = _segment(segments[1], "payload")
    claims = _json_object(payload, "payload")
    signature = _segment(segments[2], "signature")
    alg = _text(header, "alg")
    if alg is None:
        raise Unauthenticated("The token's header has no 'alg'.")
    return ParsedJws(
        alg=alg,
        typ=_media_type(_text(header, "typ")),
        kid=_text(header, "kid"),
        payload=payload,
        claims=claims,
        signing_input=f"{segments[0]}.{segments[1]}".encode("ascii"),
        signature=signature,
    )


def _segment(text: str, name: str) -> bytes:
    # urlsafe_b64decode drops foreign characters silently: two spellings of one token, or worse.
    if _BASE64URL.fullmatch(text) is None:
        raise Unauthenticated(f"The token's {name} is not base64url without padding.")
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise Unauthenticated(f"The token's {name} is not base64url.") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text.encode("ascii"):
        raise Unauthenticated(f"The token's {name} is not canonical base64url.")
    return decoded


class _Duplicate(ValueError):
    pass


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        raise _Duplicate
    return seen


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _json_object(data: bytes, name: str) -> dict[str, object]:
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_no_constant
        )
    except _Duplicate:
        raise Unauthenticated(f"The token's {name} has a name twice in one object.") from None
    except (ValueError, RecursionError):
        raise Unauthenticated(f"The token's {name} is not JSON.") from None
    if not isinstance(value, dict):
        raise Unauthenticated(f"The token's {name} is not a JSON object.")
    return value


def _refuse_headers(header: Mapping[str, object]) -> None:
    refused = sorted(_REFUSED_HEADERS & header.keys())
    if refused:
        raise Unauthenticated(
            f"The token's header has {', '.join(refused)}, which is never accepted.",
            hint="Keys come from the issuer's own JWKS alone, and no extension is understood.",
        )


def _text(header: Mapping[str, object], name: str) -> str | None:
    value = header.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > MAX_KID_CHARACTERS:
        raise Unauthenticated(f"The token's header field '{name}' is not a short text.")
    return value


def _media_type(typ: str | None) -> str | None:
    return None if typ is None else typ.lower().removeprefix("application/")
