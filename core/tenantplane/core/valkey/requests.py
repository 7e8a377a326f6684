"""What is asked of the admission store. All money is whole nano-dollars, 0 to 9e15.

The objects are plain; `encoding` refuses bad values before anything is sent, and the library
refuses them once more before it writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

# Requests and tokens are counted over a sliding minute unless a test says otherwise.
WINDOW_MS = 60_000


@dataclass(frozen=True, slots=True)
class LevelRef:
    """A node of the tree of limits: ("org", "acme"), ("user", "auth0|17"), ("run", "0192…")."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Period:
    """A span of money, `start_unix` ≤ t < `end_unix`, cut in the level's own time zone.

    `name` says which sort ("day", "month"), `id` which one ("2026-02"). A cap of None does not
    limit; settled plus held never passes 9e15 all the same, so that sums stay exact.
    """

    name: str
    id: str
    start_unix: int
    end_unix: int
    soft_cap_nanousd: int | None = None
    hard_cap_nanousd: int | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """Limits of one level. `periods` holds the current and the next period of each name.

    The store chooses by its own clock, so that a plane's wrong clock chooses nothing; a name of
    which no period covers the store's time is refused, and answered as 503.

    `concurrent_calls` bounds the open holds that were placed while the level limited them. Without
    any period such a level still counts, but an install knows only accounts, and forgets what is
    open there: give it one. `shadow`: all its limits are checked and counted, and refuse nothing
    (`Admitted.shadowed`); a suspension is no limit, and refuses.
    """

    kind: str
    id: str
    requests_per_window: int | None = None
    tokens_per_window: int | None = None
    periods: tuple[Period, ...] = ()
    suspended: bool = False
    concurrent_calls: int | None = None
    shadow: bool = False


@dataclass(slots=True)  # frozen, its fields would take thrice the time; nobody changes it
class AdmitRequest:
    """One hold under all its levels, root first, or one refusal.

    `hold_id` is the caller's (the intent's UUID): sent again it counts nothing twice, with a larger
    amount it enlarges the hold, with a smaller one it changes nothing. `hold_nanousd` is the worst
    case, 0 where only rates are asked for; `least_nanousd` the smallest hold that is of use: the
    store places the largest amount from it to `hold_nanousd` that fits under all hard caps (None:
    all or nothing). `continues` marks work that already runs, which a soft cap does not stop.
    `snapshot_version` is that of `org_id`'s snapshot that gave the limits.
    """

    root_org_id: str
    epoch: int
    org_id: str
    snapshot_version: int
    hold_id: str
    hold_nanousd: int
    tokens: int
    ttl_seconds: int
    levels: tuple[Level, ...]
    continues: bool = False
    window_ms: int = WINDOW_MS
    least_nanousd: int | None = None


class Stage(StrEnum):
    """How final a settlement is; a hold only ever moves to the right.

    held → released (no call was made) → estimated → actual
    """

    RELEASED = "released"
    ESTIMATED = "estimated"
    ACTUAL = "actual"


@dataclass(frozen=True, slots=True)
class Slot:
    """The account of one level in one period."""

    kind: str
    id: str
    period: str
    period_id: str
    period_end_unix: int


@dataclass(frozen=True, slots=True)
class SettledAmount:
    """What Postgres knows to be settled in a slot."""

    slot: Slot
    nanousd: int


@dataclass(frozen=True, slots=True)
class InstalledHold:
    """An open intent (`estimated` False), or an outcome still `estimated`, read from Postgres.

    An open hold adds `nanousd` to what is held in its slots. An estimated one adds nothing, since
    its amount is in the settled amounts already: it lets a later `actual` add the difference.
    """

    hold_id: str
    nanousd: int
    deadline_unix: int
    slots: tuple[Slot, ...]
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Installation:
    """All that a root's new epoch begins with."""

    root_org_id: str
    epoch: int
    settled: Sequence[SettledAmount] = ()
    holds: Sequence[InstalledHold] = ()
    # Snapshot versions by org that the installer knows, so that a flush forgets no suspension.
    snapshot_versions: Mapping[str, int] = field(default_factory=dict)
