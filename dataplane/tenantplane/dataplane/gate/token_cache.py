"""Verified tokens, so that a warm request costs a hash instead of a signature check."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from tenantplane.core.identity.claims import AccessClaims

# About 1 kB each; past it the least recently used are verified again.
CAPACITY = 10_000


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: AccessClaims
    generation: int


class TokenCache:
    """By SHA-256 of the token: a dump of the cache holds no usable token.

    An entry ends with the token's `exp` and with the key set's generation. Plan, epoch and status
    are not cached: they are compared with the snapshot at every request.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[bytes, _Verified] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token: str, *, generation: int, now_unix: float) -> AccessClaims | None:
        key = _key(token)
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.generation != generation or entry.claims.exp <= now_unix:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry.claims

    def put(self, token: str, claims: AccessClaims, *, generation: int) -> None:
        self._entries[_key(token)] = _Verified(claims, generation)
        self._entries.move_to_end(_key(token))
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
