"""The database's clock, read without asking it: an offset taken at connect, then monotonic.

A host whose wall clock is an hour off signs proofs that the database accepts all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

# CLOCK_BOOTTIME goes on while the machine sleeps; CLOCK_MONOTONIC stands still on Linux, and every
# proof after a suspend would be born expired.
_elapsed: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)


class DatabaseClock:
    """Time of the database server. `synchronise` is called at every new connection."""

    def __init__(self, elapsed: Callable[[], float] = _elapsed) -> None:
        self._elapsed = elapsed
        self._offset: float | None = None

    def elapsed(self) -> float:
        """Seconds on the local monotonic clock; take it before and after the query."""
        return self._elapsed()

    def synchronise(self, server_unix: float, before: float, after: float) -> None:
        """Takes the offset from one reading, assuming the server read in mid round trip."""
        self._offset = server_unix - (before + after) / 2

    def unix(self) -> float:
        """Seconds since 1970 on the database's clock. Raises RuntimeError before the first sync."""
        if self._offset is None:
            raise RuntimeError("the database's clock was not read yet: open the Database first")
        return self._offset + self._elapsed()

    def now(self) -> datetime:
        """The database's time, in UTC."""
        return datetime.fromtimestamp(self.unix(), UTC)
