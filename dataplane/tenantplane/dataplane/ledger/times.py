"""How long the ledger waits for what. Tests scale these down; nothing else should."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class LedgerTimes:
    # Between a hold and the commit of its intent lie two hops. A process that is stalled for longer
    # must ask again, since a sweeper may give the hold back from here on.
    commit_window: timedelta = timedelta(seconds=15)
    # A process that is merely slow closes its own call in this time after the call's deadline.
    grace: timedelta = timedelta(seconds=30)
    # A process knows the database's time by an offset that it read some time ago.
    clock_margin: timedelta = timedelta(seconds=5)

    def hold_ttl_seconds(self, deadline_seconds: float) -> int:
        """A hold outlives the time in which its intent may be committed, and its call."""
        waits = self.commit_window.total_seconds() + self.grace.total_seconds()
        return math.ceil(deadline_seconds + waits)
