"""The proof that travels with a tenant context: only a holder of the key can make one.

    proof = key_id '.' expiry '.' hex(hmac_sha256(key, org '|' expiry))

HMAC is RFC 2104; `tp.verify_proof` (migrations/0001) recomputes it from the two stored pads.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final

from tenantplane.core.ids import is_org_id

PROOF_LIFE_SECONDS = 60
KEY_BYTES = 32
# A small part of a proof's life, so that what is sent with it is always in time.
_REUSE_SECONDS: Final = 5.0
_MAX_KEPT: Final = 10_000
_BLOCK_BYTES = 64  # SHA-256's block, RFC 2104 section 2
_KEY_ID = re.compile(r"[a-z0-9_-]{1,32}", re.ASCII)


def check_key(key_id: str, key: bytes) -> None:
    """Raises ValueError where the key or its name could not be used."""
    if not _KEY_ID.fullmatch(key_id):
        raise ValueError("key_id must be 1 to 32 characters of a-z, 0-9, '_' and '-'")
    if len(key) != KEY_BYTES:
        raise ValueError(f"the context key must have {KEY_BYTES} bytes, not {len(key)}")


def make_proof(key_id: str, key: bytes, org: str, expiry_unix: int) -> str:
    """A proof for `org`, valid until `expiry_unix` (whole seconds on the database's clock).

    Raises ValueError for anything but an org id: a `|` in it would make two orgs sign alike.
    """
    check_key(key_id, key)
    if not is_org_id(org):
        raise ValueError(f"{org!r} is not an org id (a DNS label of at most 40 characters)")
    mac = hmac.digest(key, f"{org}|{expiry_unix}".encode("ascii"), "sha256")
    return f"{key_id}.{expiry_unix}.{mac.hex()}"


class Proofs:
    """Proofs of one service for many orgs, each made once in 5 seconds of the database's clock `unix`.

    Not for several threads.
    """

    def __init__(self, key_id: str, key: bytes, unix: Callable[[], float]) -> None:
        self._key_id = key_id
        self._key = key
        self._unix = unix
        self._made: dict[str, str] = {}
        self._since = 0.0

    def of(self, org_id: str) -> str:
        """Valid for 55 seconds at least. Raises ValueError where it is no org id."""
        now = self._unix()
        # Also where the clock was set back: the database may be another one now.
        if not 0.0 <= now - self._since < _REUSE_SECONDS or len(self._made) >= _MAX_KEPT:
            self._made.clear()
            self._since = now
        proof = self._made.get(org_id)
        if proof is None:
            expiry = int(now) + PROOF_LIFE_SECONDS
            proof = self._made[org_id] = make_proof(self._key_id, self._key, org_id, expiry)
        return proof


def hmac_pads(key: bytes) -> tuple[bytes, bytes]:
    """The inner and the outer pad of HMAC-SHA-256: what the database stores instead of the key."""
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(
        _BLOCK_BYTES, b"\0"
    )
    return bytes(b ^ 0x36 for b in block), bytes(b ^ 0x5C for b in block)
