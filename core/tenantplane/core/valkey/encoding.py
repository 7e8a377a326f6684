"""Requests to arguments, replies to answers: pure, the inverse of the reading in lua/.

Money travels as decimal digits; an absent limit is an empty argument, or field. A call is one argument:
its fields are ended by newlines, its levels by RS, and the library keeps what it read from levels by
a digest of their text: Lua hashes a long text by 32 of its bytes, so that those of many users met.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import cast

from tenantplane.core import money
from tenantplane.core.errors import FieldError, InvalidInput
from tenantplane.core.ids import is_org_id
from tenantplane.core.valkey.answers import (
    AdmitAnswer,
    Admitted,
    AlreadyInstalled,
    AlreadySettled,
    BeginAnswer,
    Begun,
    EpochLost,
    ExpiredAnswer,
    ExpiredHold,
    InstallAnswer,
    Installed,
    NoHold,
    NotInstalled,
    OpenCalls,
    PeriodSpend,
    Placing,
    Reason,
    Refused,
    SettleAnswer,
    Settled,
    Spend,
    SpendAnswer,
    Stale,
    WindowUse,
)
from tenantplane.core.valkey.keys import is_hold_id
from tenantplane.core.valkey.requests import AdmitRequest, Installation, Level, Slot, Stage

MAX_INTEGER = int(money.MAX_CAP)

Reply = list[bytes | int]

_MOST_NAME_BYTES = 512
# What Lua's %c matches. A newline in a name would end a field, and shift the limits after it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LEVEL_END = "\x1e"
# Levels of which the text is kept: those of an org come with every call of it.
_MOST_KEPT_LEVELS = 20_000
# Paths of levels of which the text is kept with its digest.
_MOST_KEPT_PATHS = 5_000


class Arguments:
    """Collects arguments, and all faults, so that one error names every bad field."""

    def __init__(self) -> None:
        self._values: list[str] = []
        self._faults: list[FieldError] = []

    def text(self, value: str) -> None:
        self._values.append(value)

    def fault(self, path: str, message: str) -> None:
        self._faults.append(FieldError(path, message))

    def name(self, path: str, value: str) -> None:
        self.require_name(path, value)
        self._values.append(value)

    def require_name(self, path: str, value: str) -> None:
        if not _is_name(value):
            self.fault(path, f"must be 1 to {_MOST_NAME_BYTES} bytes without control characters")

    def flag(self, value: bool) -> None:
        self._values.append("1" if value else "0")

    def integer(self, path: str, value: object, *, least: int = 0) -> None:
        self.require_integers(((path, least),), (value,))
        self._values.append(str(value))

    def optional(self, path: str, value: int | None) -> None:
        if value is None:
            self._values.append("")
        else:
            self.integer(path, value)

    def hold_id(self, path: str, value: str) -> None:
        self.require_hold_id(path, value)
        self._values.append(value)

    def require_integers(
        self, named: tuple[tuple[str, int], ...], values: tuple[object, ...]
    ) -> None:
        """Checked only: each is named, with the least that it may be."""
        for (path, least), value in zip(named, values, strict=True):
            # Exactly: bool is an int in Python; True dollars is a bug of the caller.
            if type(value) is not int or not least <= value <= MAX_INTEGER:
                self.fault(path, f"must be a whole number from {least} to {MAX_INTEGER}")

    def require_hold_id(self, path: str, value: str) -> None:
        if not is_hold_id(value):
            self.fault(path, "must be 1 to 80 letters, digits, '-' or '_'")

    def root(self, value: str) -> None:
        """Checked only: the root stands in the keys."""
        if not _is_root(value):
            self.fault("root_org_id", "must be an org id (a DNS label)")

    def levels(self, levels: Sequence[Level]) -> str:
        """A text each; that of a level without faults is kept."""
        if not levels:
            self.fault("levels", "must be one at least")
        texts = []
        for at, level in enumerate(levels):
            kept = _levels.get(id(level))
            if kept is None or kept[0] is not level:
                kept = self._new_level(f"levels[{at}]", level)
            texts.append(kept[1])
        return "".join(texts)

    def _new_level(self, path: str, level: Level) -> tuple[Level, str]:
        fields = Arguments()
        _add_level(fields, path, level)
        made = level, "\n".join((*fields._values, "")) + _LEVEL_END
        if fields._faults:
            self._faults += fields._faults
        else:
            if len(_levels) >= _MOST_KEPT_LEVELS:
                _levels.clear()
            _levels[id(level)] = made
        return made

    def done(self) -> list[str]:
        """Raises InvalidInput that names every bad field."""
        if self._faults:
            named = "; ".join(f"{fault.path} {fault.message}" for fault in self._faults)
            raise InvalidInput(
                f"The admission request is malformed: {named}.", errors=tuple(self._faults)
            )
        return self._values


# By identity, since the hash of a level is the work that this saves; an entry keeps its level
# alive, so that no other can have its identity.
_levels: dict[int, tuple[Level, str]] = {}


# The same few names come with every call: of orgs, roots, levels.
_is_root = lru_cache(maxsize=10_000)(is_org_id)


@lru_cache(maxsize=10_000)
def _is_name(value: str) -> bool:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can smuggle in
        return False
    return 0 < size <= _MOST_NAME_BYTES and not _CONTROL.search(value)


def _add_level(fields: Arguments, path: str, level: Level) -> None:
    fields.name(f"{path}.kind", level.kind)
    fields.name(f"{path}.id", level.id)
    fields.flag(level.suspended)
    fields.flag(level.shadow)
    fields.optional(f"{path}.requests_per_window", level.requests_per_window)
    fields.optional(f"{path}.tokens_per_window", level.tokens_per_window)
    fields.optional(f"{path}.concurrent_calls", level.concurrent_calls)
    fields.integer(f"{path}.periods", len(level.periods))
    for number, period in enumerate(level.periods):
        where = f"{path}.periods[{number}]"
        fields.name(f"{where}.name", period.name)
        fields.name(f"{where}.id", period.id)
        fields.integer(f"{where}.start_unix", period.start_unix)
        fields.integer(f"{where}.end_unix", period.end_unix)
        fields.optional(f"{where}.soft_cap_nanousd", period.soft_cap_nanousd)
        fields.optional(f"{where}.hard_cap_nanousd", period.hard_cap_nanousd)


_OF_ADMISSIONS = (
    ("epoch", 1),
    ("snapshot_version", 0),
    ("hold_nanousd", 0),
    ("least_nanousd", 0),
    ("tokens", 0),
    ("ttl_seconds", 1),
    ("window_ms", 1),
)
_OF_SETTLEMENTS = (("epoch", 1), ("nanousd", 0), ("tokens", 0))


def admit_argument(request: AdmitRequest) -> str:
    """The call in one text. Raises InvalidInput that names every bad field."""
    epoch, version, hold_id = request.epoch, request.snapshot_version, request.hold_id
    held, tokens, ttl = request.hold_nanousd, request.tokens, request.ttl_seconds
    least = held if request.least_nanousd is None else request.least_nanousd
    window = request.window_ms
    arguments = Arguments()
    arguments.root(request.root_org_id)
    arguments.require_integers(_OF_ADMISSIONS, (epoch, version, held, least, tokens, ttl, window))
    arguments.require_name("org_id", request.org_id)
    arguments.require_hold_id("hold_id", hold_id)
    if request.least_nanousd is not None and request.least_nanousd > held:
        arguments.fault("least_nanousd", "must not be above hold_nanousd")
    head = (
        f"{epoch}\n{request.org_id}\n{version}\n{hold_id}\n{held}\n{least}\n{tokens}\n{ttl}\n"
        f"{window}\n{request.continues:d}\n"
    )
    levels = arguments.levels(request.levels)
    arguments.done()
    return head + _with_digest(levels)


@lru_cache(maxsize=_MOST_KEPT_PATHS)
def _with_digest(levels: str) -> str:
    return f"{blake2b(levels.encode(), digest_size=16).hexdigest()}\n{levels}"


def settle_argument(
    root_org_id: str,
    epoch: int,
    hold_id: str,
    stage: Stage,
    nanousd: int,
    tokens: int | None,
    expired_only: bool,
) -> str:
    """The call in one text. Raises InvalidInput that names every bad field."""
    arguments = Arguments()
    arguments.root(root_org_id)
    arguments.require_integers(_OF_SETTLEMENTS, (epoch, nanousd, 0 if tokens is None else tokens))
    arguments.require_hold_id("hold_id", hold_id)
    arguments.done()
    known = "" if tokens is None else tokens
    return f"{epoch}\n{hold_id}\n{stage}\n{nanousd}\n{known}\n{expired_only:d}\n"


def _add_slot(arguments: Arguments, path: str, slot: Slot) -> None:
    arguments.text(slot.kind)
    arguments.text(slot.id)
    arguments.text(slot.period)
    arguments.text(slot.period_id)
    arguments.integer(f"{path}.period_end_unix", slot.period_end_unix)


def install_arguments(installation: Installation) -> list[str]:
    """Raises InvalidInput that names every bad field."""
    arguments = Arguments()
    arguments.root(installation.root_org_id)
    arguments.integer("epoch", installation.epoch, least=1)
    arguments.integer("settled", len(installation.settled))
    for at, settled in enumerate(installation.settled):
        _add_slot(arguments, f"settled[{at}].slot", settled.slot)
        arguments.integer(f"settled[{at}].nanousd", settled.nanousd)
    arguments.integer("holds", len(installation.holds))
    for at, hold in enumerate(installation.holds):
        arguments.hold_id(f"holds[{at}].hold_id", hold.hold_id)
        arguments.integer(f"holds[{at}].nanousd", hold.nanousd)
        arguments.integer(f"holds[{at}].deadline_unix", hold.deadline_unix)
        arguments.flag(hold.estimated)
        arguments.integer(f"holds[{at}].slots", len(hold.slots))
        for number, slot in enumerate(hold.slots):
            _add_slot(arguments, f"holds[{at}].slots[{number}]", slot)
    arguments.integer("snapshot_versions", len(installation.snapshot_versions))
    for org_id, version in sorted(installation.snapshot_versions.items()):
        arguments.text(org_id)
        arguments.integer(f"snapshot_versions.{org_id}", version)
    return arguments.done()


def spend_arguments(
    root_org_id: str, epoch: int, levels: Sequence[Level], window_ms: int
) -> list[str]:
    """Raises InvalidInput that names every bad field."""
    arguments = Arguments()
    arguments.root(root_org_id)
    arguments.integer("epoch", epoch, least=1)
    arguments.integer("window_ms", window_ms, least=1)
    texts = arguments.levels(levels)
    return [*arguments.done(), _with_digest(texts)]


def expired_arguments(root_org_id: str, epoch: int, limit: int) -> list[str]:
    """Raises InvalidInput that names every bad field."""
    arguments = Arguments()
    arguments.root(root_org_id)
    arguments.integer("epoch", epoch, least=1)
    arguments.integer("limit", limit, least=1)
    return arguments.done()


def begin_arguments(epoch: int) -> list[str]:
    """Raises InvalidInput where the epoch is not 1 or more."""
    arguments = Arguments()
    arguments.integer("epoch", epoch, least=1)
    return arguments.done()


# Of each level that limits a rate: its place, requests, tokens, and when the oldest of both leave.
_WINDOW_PARTS = 5
# Before the windows of an admission.
_ADMITTED_PARTS = 5
_PLACINGS = {placing.value.encode(): placing for placing in Placing}
# Reason, kind, id, limit, used, retry after, period.
_REFUSAL_PARTS = 7
_PERIOD_PARTS = 8


def _texts(reply: Reply) -> list[str]:
    return [part.decode() if isinstance(part, bytes) else str(part) for part in reply]


def _number(text: str) -> int | None:
    return int(text) if text else None


def _groups(parts: list[str], size: int) -> Iterator[list[str]]:
    return (parts[at : at + size] for at in range(0, len(parts), size))


def _not_open(parts: list[str]) -> EpochLost | NotInstalled:
    match parts:
        case ["EPOCH", epoch]:
            return EpochLost(_number(epoch))
        case ["NOTINSTALLED"]:
            return NotInstalled()
    raise ValueError(f"the admission library answered {parts[:1]}, which this client does not know")


def _window_uses(
    reply: Reply, first: int, end: int, levels: Sequence[Level]
) -> tuple[WindowUse, ...]:
    """Of the integers from `first` to before `end`."""
    uses = []
    numbers = cast("list[int]", reply)
    for at in range(first, end, _WINDOW_PARTS):
        place, requests, tokens, requests_reset_ms, tokens_reset_ms = numbers[
            at : at + _WINDOW_PARTS
        ]
        level = levels[place]
        uses.append(
            WindowUse(
                level.kind,
                level.id,
                requests,
                tokens,
                level.requests_per_window,
                level.tokens_per_window,
                requests_reset_ms,
                tokens_reset_ms,
            )
        )
    return tuple(uses)


def _refused(parts: list[str], windows: tuple[WindowUse, ...] = ()) -> Refused:
    reason, kind, level_id, limit, used, retry_after, period = parts
    return Refused(
        reason=Reason(reason),
        level_kind=kind,
        level_id=level_id,
        limit=int(limit),
        used=int(used),
        retry_after_ms=_number(retry_after),
        period=period or None,
        windows=windows,
    )


def admit_answer(reply: Reply, levels: Sequence[Level]) -> AdmitAnswer:
    """`levels` are the request's: windows come by their place among them."""
    if reply[0] == b"ADMITTED":  # apart, since a pattern with types takes 2 µs
        return _admitted(reply, levels)
    match reply:
        case [b"REFUSED", *parts]:
            windows_of = _window_uses(parts, _REFUSAL_PARTS, len(parts), levels)
            return _refused(_texts(parts[:_REFUSAL_PARTS]), windows_of)
        case [b"STALE", known]:
            return Stale(int(known))
        case _:
            return _not_open(_texts(reply))


def _admitted(reply: Reply, levels: Sequence[Level]) -> Admitted:
    placing, held, deadline, windows = cast("tuple[bytes, int, int, int]", reply[1:_ADMITTED_PARTS])
    end = _ADMITTED_PARTS + windows * _WINDOW_PARTS
    uses = _window_uses(reply, _ADMITTED_PARTS, end, levels)
    if end == len(reply):
        return Admitted(_PLACINGS[placing], held, deadline, uses)
    shadowed = _groups(_texts(reply[end:]), _REFUSAL_PARTS)
    return Admitted(_PLACINGS[placing], held, deadline, uses, tuple(map(_refused, shadowed)))


def settle_answer(reply: Reply) -> SettleAnswer:
    if reply[0] == b"SETTLED":
        return Settled(cast("int", reply[1]))
    match reply:
        case [b"ALREADY", bytes(stage), int(amount)]:
            return AlreadySettled(stage.decode(), amount)
        case [b"NOHOLD"]:
            return NoHold()
        case _:
            return _not_open(_texts(reply))


def install_answer(reply: Reply) -> InstallAnswer:
    match _texts(reply):
        case ["INSTALLED"]:
            return Installed()
        case ["ALREADY"]:
            return AlreadyInstalled()
        case ["EPOCH", epoch]:
            return EpochLost(_number(epoch))
        case parts:
            raise ValueError(f"tp_install answered {parts[:1]}, which this client does not know")


def begin_answer(reply: Reply) -> BeginAnswer:
    match _texts(reply):
        case ["BEGUN"]:
            return Begun()
        case ["EPOCH", epoch]:
            return EpochLost(_number(epoch))
        case parts:
            raise ValueError(
                f"tp_begin_epoch answered {parts[:1]}, which this client does not know"
            )


def _period_spend(parts: list[str]) -> PeriodSpend:
    kind, level_id, period, period_id, settled, held, soft, hard = parts
    return PeriodSpend(
        level_kind=kind,
        level_id=level_id,
        period=period,
        period_id=period_id,
        settled_nanousd=int(settled),
        held_nanousd=int(held),
        soft_cap_nanousd=_number(soft),
        hard_cap_nanousd=_number(hard),
    )


def _open_calls(parts: list[str], levels: Sequence[Level]) -> OpenCalls:
    level = levels[int(parts[0])]
    return OpenCalls(level.kind, level.id, int(parts[1]), level.concurrent_calls or 0)


def spend_answer(reply: Reply, levels: Sequence[Level]) -> SpendAnswer:
    """`levels` are those that were asked for."""
    match reply:
        case [b"SPEND", int(periods), int(windows), *parts]:
            windows_at = periods * _PERIOD_PARTS
            calls_at = windows_at + windows * _WINDOW_PARTS
            spends, calls = _texts(parts[:windows_at]), _texts(parts[calls_at:])
            return Spend(
                tuple(_period_spend(group) for group in _groups(spends, _PERIOD_PARTS)),
                _window_uses(parts, windows_at, calls_at, levels),
                tuple(_open_calls(group, levels) for group in _groups(calls, 2)),
            )
        case _:
            return _not_open(_texts(reply))


def expired_answer(reply: Reply) -> ExpiredAnswer:
    match _texts(reply):
        case ["EXPIRED", *parts]:
            return tuple(ExpiredHold(hold_id, int(due)) for hold_id, due in _groups(parts, 2))
        case parts:
            return _not_open(parts)
