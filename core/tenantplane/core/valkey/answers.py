"""What the admission store answers. Refusals are values, not errors: the caller decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


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
    CONCURRENCY = "CONCURRENCY"  # as many holds as the level may have at a time are open
    SOFT_CAP = "SOFTCAP"
    HARD_CAP = "HARDCAP"
    SETTLED = "SETTLED"  # the hold id was settled or released already: it cannot be held again


class WindowUse(NamedTuple):
    """Requests and tokens of a level in the sliding window, this request included where it was
    admitted. A limit of None does not limit; `…_reset_ms` is when the oldest of what is counted
    leaves the window, 0 where nothing is counted. A tuple: each admission makes some four."""

    level_kind: str
    level_id: str
    requests: int
    tokens: int
    requests_limit: int | None = None
    tokens_limit: int | None = None
    requests_reset_ms: int = 0
    tokens_reset_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was counted. `limit` and `used` are requests, tokens, calls or nano-dollars by
    `reason`.

    `retry_after_ms` is when the same request may pass: the window has moved on far enough, or the
    period ends. None where that is not known (a call must end first) or waiting does not help
    (suspended, or more than the limit in one go). `windows` as in Admitted, as far as they were
    read: empty for a suspension.
    """

    reason: Reason
    level_kind: str
    level_id: str
    limit: int
    used: int
    retry_after_ms: int | None
    period: str | None = None
    windows: tuple[WindowUse, ...] = ()


class Placing(StrEnum):
    NEW = "new"
    ENLARGED = "enlarged"
    SAME = "same"


@dataclass(slots=True)  # frozen, its fields would take thrice the time; nobody changes it
class Admitted:
    """The hold of `held_nanousd`, which may be less than was asked for where the request named a
    least amount, stands under all levels until `deadline_unix_ms` on the server's clock.

    `shadowed` says what levels in shadow would have refused, were they not: of each level all that
    stood against the request.
    """

    placing: Placing
    held_nanousd: int
    deadline_unix_ms: int
    # Only levels that limit a rate, in the order of the request.
    windows: tuple[WindowUse, ...]
    shadowed: tuple[Refused, ...] = ()


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
class OpenCalls:
    """Open holds of a level that limits how many there may be at a time."""

    level_kind: str
    level_id: str
    calls: int
    calls_limit: int


@dataclass(frozen=True, slots=True)
class Spend:
    """What the levels use now; reading it counts nothing."""

    periods: tuple[PeriodSpend, ...]
    # Only levels that limit a rate, and calls at a time.
    windows: tuple[WindowUse, ...] = ()
    calls: tuple[OpenCalls, ...] = ()


AdmitAnswer = Admitted | Refused | Stale | NotInstalled | EpochLost
SettleAnswer = Settled | AlreadySettled | NoHold | NotInstalled | EpochLost
InstallAnswer = Installed | AlreadyInstalled | EpochLost
BeginAnswer = Begun | EpochLost
SpendAnswer = Spend | NotInstalled | EpochLost
ExpiredAnswer = tuple[ExpiredHold, ...] | NotInstalled | EpochLost
