"""What is made of an immutable object once, and forgotten with it.

By identity: to hash or compare a snapshot costs more than most of what is made of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Generic, TypeVar

_Made = TypeVar("_Made")


class Derived(Generic[_Made]):
    """A table for each object that lives, of `most` entries together: past it all begin anew."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries = 0
        self._tables: dict[int, tuple[weakref.ref[object], dict[Hashable, _Made]]] = {}

    def __len__(self) -> int:
        return self._entries

    def cache_clear(self) -> None:
        """As of functools: all is made again."""
        self._tables.clear()
        self._entries = 0

    def get(self, source: object, key: Hashable) -> _Made | None:
        known = self._tables.get(id(source))
        return None if known is None else known[1].get(key)

    def put(self, source: object, key: Hashable, made: _Made) -> None:
        """`source` can be referred to weakly, and never changes."""
        if self._entries >= self._most:
            self.cache_clear()
        number = id(source)
        known = self._tables.get(number)
        if known is None:
            # Called before the number can be another object's.
            watched = weakref.ref(source, lambda _: self._forget(number))
            known = self._tables[number] = (watched, {})
        self._entries += key not in known[1]
        known[1][key] = made

    def _forget(self, number: int) -> None:
        _, table = self._tables.pop(number)
        self._entries -= len(table)
