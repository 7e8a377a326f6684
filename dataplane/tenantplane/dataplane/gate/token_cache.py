"""What credentials were proven to be, so that a warm request costs a hash in place of a signature
check and of all that follows from it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

# About 1 kB each; past it the least recently used are proven again.
CAPACITY = 10_000

_Proven = TypeVar("_Proven")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[_Proven]):
    proven: _Proven
    under: object
    ends_unix: float


class TokenCache(Generic[_Proven]):
    """By SHA-256 of the credential: a dump of the cache holds no usable one.

    An entry ends at its time, and with what it was proven `under`: the key set's generation, and
    what enrolment told the plane.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[bytes, _Entry[_Proven]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, *, under: object, now_unix: float) -> _Proven | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.under != under or entry.ends_unix <= now_unix:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry.proven

    def put(
        self, key: bytes, proven: _Proven, *, under: object, ends_unix: float, now_unix: float
    ) -> None:
        self._entries[key] = _Entry(proven, under, ends_unix)
        self._entries.move_to_end(key)
        self._drop_unused(now_unix)

    def _drop_unused(self, now_unix: float) -> None:
        """Nobody asks again for what has ended: the oldest would keep its snapshot in memory."""
        while len(self._entries) > self._capacity or self._oldest().ends_unix <= now_unix:
            self._entries.popitem(last=False)
            if not self._entries:
                return

    def _oldest(self) -> _Entry[_Proven]:
        return next(iter(self._entries.values()))


def cache_key(field: tuple[bytes, bytes]) -> bytes:
    """Of a credential's header field, its name included: what is one in `authorization` may be none
    in another field."""
    return hashlib.sha256(b":".join(field)).digest()
