"""Envelope encryption: data keys (AES-256-GCM) that a key provider wraps for one org."""

from __future__ import annotations

import os
import secrets
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenantplane.core.errors import Forbidden

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_SEPARATOR: Final = "|"


def new_data_key() -> bytes:
    """256 random bits for `DataKey`; store them wrapped alone."""
    return secrets.token_bytes(KEY_BYTES)


def associated_data(purpose: str, org_id: str, *parts: str) -> bytes:
    """What a ciphertext is bound to: `purpose|org|…`, so that it opens in no other org, row or
    column (F60). Raises ValueError for a part that is empty or could blur the border of two."""
    named = (purpose, org_id, *parts)
    bound = _SEPARATOR.join(named)
    if "" in named or bound.count(_SEPARATOR) != len(named) - 1:
        raise ValueError("each part of associated data is a non-empty text without '|'")
    return bound.encode("utf-8")


class DataKey:
    """A key that encrypts content: version byte ‖ 96-bit random nonce ‖ AES-256-GCM ciphertext.

    Random nonces bound one key to 2^32 messages (NIST SP 800-38D section 8.3).
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes")
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return "DataKey(…)"

    def encrypt(self, plaintext: bytes, associated: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plaintext, _VERSION + associated)

    def decrypt(self, ciphertext: bytes, associated: bytes) -> bytes:
        """Raises Forbidden (`ciphertext_refused`): tampered with, moved, or of another key."""
        nonce, body = ciphertext[1 : 1 + _NONCE_BYTES], ciphertext[1 + _NONCE_BYTES :]
        if ciphertext[:1] != _VERSION or len(body) < _TAG_BYTES:
            raise _refused("it is not in the form that this version writes")
        try:
            return self._cipher.decrypt(nonce, body, _VERSION + associated)
        except InvalidTag:
            raise _refused("it was changed, moved from elsewhere, or is of another key") from None


class KeyProvider(Protocol):
    """Wraps data keys under a key that is bound to one org: local, AWS KMS, Vault transit.

    Asynchronous, since all but the local one ask another service. Both raise Forbidden where the
    key does not open for that org, and DependencyUnavailable where the service cannot be asked.
    """

    async def wrap(self, org_id: str, dek: bytes) -> bytes: ...

    async def unwrap(self, org_id: str, wrapped: bytes) -> bytes: ...


def _refused(reason: str) -> Forbidden:
    return Forbidden(f"The ciphertext does not open: {reason}.", code="ciphertext_refused")
