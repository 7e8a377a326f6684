"""Proofs of tenants for many statements in a row: each is made once in some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# A small part of a proof's life, so that what is sent with it is always in time.
_REUSE_SECONDS: Final = 5.0
_MAX_KEPT: Final = 10_000


class Proofs:
    """Not for several threads."""

    def __init__(
        self, make: Callable[[str], str], *, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._make = make
        self._elapsed = elapsed
        self._made: dict[str, str] = {}
        self._until = 0.0

    def of(self, org_id: str) -> str:
        """Raises ValueError where it is no org id."""
        now = self._elapsed()
        if now >= self._until or len(self._made) >= _MAX_KEPT:
            self._made.clear()
            self._until = now + _REUSE_SECONDS
        proof = self._made.get(org_id)
        if proof is None:
            proof = self._made[org_id] = self._make(org_id)
        return proof
