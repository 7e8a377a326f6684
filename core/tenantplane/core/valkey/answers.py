"""What the admission store answers. Refusals are values, not errors: the caller decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class EpochLost:
    """The server holds another epoch (`open_epoch`), or none after a restart, promotion or loss.

    Raise the epoch in Postgres, `begin_epoch` once, install; nothing is admitted until then.
    """

    open_epoch: int | None


@dataclass(frozen=True, slots=True)
class NotInstalled:
    """This root has not been installed in the open epoch: install it, then ask again."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The caller's snapshot is older than one that was used already; fetch the newer one."""

    known_version: int


class Reason(StrEnum):
    SUSPENDED = "SUSPENDED"
    REQUESTS = "REQUESTS"
    TOKENS = "TOKENS"
    SOFT_CAP = "SOFTCAP"
    HARD_CAP = "HARDCAP"
    SETTLED = "SETTLED"  # the hold id was settled or released already: it cannot be held again


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was counted. `limit` and `used` are requests, tokens or nano-dollars by `reason`.

    `retry_after_ms` is when the same request may pass: the window has moved on far enough, or the
    period ends. None where waiting does not help (suspended, or more than the limit in one go).
    """

    reason: Reason
    level_kind: str
    level_id: str
    limit: int
    used: int
    retry_after_ms: int | None
    period: str | None = None


class Placing(StrEnum):
    NEW = "new"
    ENLARGED = "enlarged"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class WindowUse:
    """Requests and tokens of a level in the sliding window, this request included."""

    level_kind: str
    level_id: str
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """The hold stands under all levels until `deadline_unix_ms` on the server's clock."""

    placing: Placing
    held_nanousd: int
    deadline_unix_ms: int
    # Only levels that limit a rate.
    windows: tuple[WindowUse, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """The hold is over; `difference_nanousd` was added to the settled amounts of its slots."""

    difference_nanousd: int


@dataclass(frozen=True, slots=True)
class AlreadySettled:
    """A repeat, or an earlier stage than the one recorded: nothing was changed."""

    stage: str
    nanousd: int


@dataclass(frozen=True, slots=True)
class NoHold:
    """No such hold in this epoch (long settled, or settled before the install): nothing changed."""


@dataclass(frozen=True, slots=True)
class Installed:
    """The root is open for admissions."""


@dataclass(frozen=True, slots=True)
class AlreadyInstalled:
    """Another process was first; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The epoch is open on this server."""


@dataclass(frozen=True, slots=True)
class ExpiredHold:
    hold_id: str
    deadline_unix_ms: int


@dataclass(frozen=True, slots=True)
class PeriodSpend:
    """Settled and held of one level in the period that is current on the server's clock."""

    level_kind: str
    level_id: str
    period: str
    period_id: str
    settled_nanousd: int
    held_nanousd: int
    soft_cap_nanousd: int | None
    hard_cap_nanousd: int | None


@dataclass(frozen=True, slots=True)
class Spend:
    periods: tuple[PeriodSpend, ...]


AdmitAnswer = Admitted | Refused | Stale | NotInstalled | EpochLost
SettleAnswer = Settled | AlreadySettled | NoHold | NotInstalled | EpochLost
InstallAnswer = Installed | AlreadyInstalled | EpochLost
BeginAnswer = Begun | EpochLost
SpendAnswer = Spend | NotInstalled | EpochLost
ExpiredAnswer = tuple[ExpiredHold, ...] | NotInstalled | EpochLost
