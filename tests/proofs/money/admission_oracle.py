"""Admission in plain Python, written from its specification and not from lua/: one tree of tenants.

Windows never move on here (the checker's window is years long), so that every count is exact. What
was settled and what is held is not kept: it is summed up from the holds, again and again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tenantplane.core.money import MAX_CAP
from tenantplane.core.valkey.requests import Level, Period

Ref = tuple[str, str]  # kind and id of a level
Account = tuple[str, str, str, str]  # kind, level id, period name, period id
# Reason, level, limit, used, period: what a refusal must say.
Objection = tuple[str, Ref, int, int, str | None]
STAGES = {"held": 0, "released": 1, "estimated": 2, "actual": 3}


@dataclass
class Hold:
    path: tuple[Level, ...]
    accounts: list[Account]
    amount: int
    deadline_ms: int
    tokens: int | None  # None: installed, its tokens are in no window
    counted: set[Ref]
    state: str = "held"


@dataclass(frozen=True)
class Asked:
    """An admission. `current` says of each period name which one the server's time is in."""

    hold_id: str
    path: tuple[Level, ...]
    amount: int
    least: int
    tokens: int
    continues: bool
    version: int
    org_id: str
    current: dict[str, str]
    ttl_ms: int


@dataclass(frozen=True)
class Granted:
    placing: str
    held: int
    windows: dict[Ref, tuple[int, int]]
    shadowed: list[Objection]


class Refusal(Exception):  # an answer, not an error
    def __init__(self, objection: Objection) -> None:
        self.objection = objection


@dataclass
class Oracle:
    holds: dict[str, Hold] = field(default_factory=dict)
    settled: Counter[Account] = field(default_factory=Counter)
    requests: Counter[Ref] = field(default_factory=Counter)
    tokens: Counter[Ref] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    # What settlements added beyond what was held: by it alone may an account pass its cap.
    excess: Counter[Account] = field(default_factory=Counter)

    def held(self, account: Account) -> int:
        return sum(h.amount for h in self._open() if account in h.accounts)

    def used(self, account: Account) -> int:
        return self.settled[account] + self.held(account)

    def calls(self, ref: Ref) -> int:
        return sum(ref in hold.counted for hold in self._open())

    def expired(self, now_ms: int) -> set[str]:
        """Ids of open holds past their deadline, but for those that hold and count nothing."""
        return {
            hold_id
            for hold_id, hold in self.holds.items()
            if hold.state == "held" and hold.deadline_ms <= now_ms and (hold.amount or hold.counted)
        }

    def admit(self, asked: Asked, now_ms: int) -> Granted | Objection | int:
        """What is granted, why not, or the snapshot version that makes the request's stale."""
        known = self.versions[asked.org_id]
        if asked.version < known:
            return known
        self.versions[asked.org_id] = asked.version
        try:
            return self._admit(asked, now_ms)
        except Refusal as refusal:
            return refusal.objection

    def settle(self, hold_id: str, stage: str, amount: int, tokens: int | None) -> int | str:
        """The difference, or why nothing changes."""
        hold = self.holds.get(hold_id)
        if hold is None:
            return "none"
        if STAGES[stage] <= STAGES[hold.state]:
            return "already"
        before = 0 if hold.state == "held" else hold.amount
        for account in hold.accounts:
            self.settled[account] += amount - before
            self.excess[account] += max(0, amount - hold.amount)
        if tokens is not None and hold.tokens is not None:
            for level in hold.path:
                if level.tokens_per_window is not None:
                    self.tokens[level.kind, level.id] += tokens - hold.tokens
            hold.tokens = tokens
        hold.state, hold.amount = stage, amount
        return amount - before

    def rebuild(self) -> None:
        """A new epoch: settled amounts and what is unfinished stay, all else is forgotten."""
        self.requests.clear()
        self.tokens.clear()
        self.holds = {
            hold_id: hold
            for hold_id, hold in self.holds.items()
            if hold.state in ("held", "estimated")
        }
        for hold in self.holds.values():
            hold.tokens = None
            hold.counted = {account[:2] for account in hold.accounts}

    def windows(self, path: Iterable[Level]) -> dict[Ref, tuple[int, int]]:
        return {
            (level.kind, level.id): (
                self.requests[level.kind, level.id],
                self.tokens[level.kind, level.id],
            )
            for level in path
            if level.requests_per_window is not None or level.tokens_per_window is not None
        }

    def _open(self) -> Iterator[Hold]:
        return (hold for hold in self.holds.values() if hold.state == "held")

    def _admit(self, asked: Asked, now_ms: int) -> Granted:
        for level in asked.path:
            if level.suspended:
                raise Refusal(("SUSPENDED", (level.kind, level.id), 0, 0, None))
        hold = self.holds.get(asked.hold_id)
        if hold is None:
            return self._new(asked, now_ms)
        if hold.state != "held":
            raise Refusal(("SETTLED", ("hold", asked.hold_id), 0, hold.amount, None))
        if asked.amount <= hold.amount:
            return Granted("same", hold.amount, self.windows(asked.path), [])
        return self._larger(asked, hold, now_ms)

    def _new(self, asked: Asked, now_ms: int) -> Granted:
        accounts = [
            (level.kind, level.id, period.name, period.id)
            for level in asked.path
            for period in level.periods
            if asked.current[period.name] == period.id
        ]
        shadowed = self._object(asked.path, self._rate_objections(asked.path, 1, asked.tokens))
        shadowed += self._object(asked.path, self._call_objections(asked.path))
        capped = [(account, _period(asked, account)) for account in accounts]
        if not asked.continues:
            shadowed += self._object(asked.path, self._soft_objections(capped))
        amount = self._increase(asked.path, capped, asked.amount, asked.least, shadowed)
        self._count(asked.path, 1, asked.tokens)
        self.holds[asked.hold_id] = Hold(
            asked.path,
            accounts,
            amount,
            now_ms + asked.ttl_ms,
            asked.tokens,
            {(lv.kind, lv.id) for lv in asked.path if lv.concurrent_calls is not None},
        )
        return Granted("new", amount, self.windows(asked.path), shadowed)

    def _larger(self, asked: Asked, hold: Hold, now_ms: int) -> Granted:
        more = max(0, asked.tokens - hold.tokens) if hold.tokens is not None else 0
        shadowed = self._object(asked.path, self._rate_objections(asked.path, 0, more))
        capped = [(account, _period(asked, account)) for account in hold.accounts]
        if asked.least > hold.amount:
            increase = self._increase(
                asked.path, capped, asked.amount - hold.amount, asked.least - hold.amount, shadowed
            )
        else:  # what stands is enough
            increase = min(asked.amount - hold.amount, self._room(asked.path, capped)[0])
        if increase <= 0:
            return Granted("same", hold.amount, self.windows(asked.path), shadowed)
        self._count(asked.path, 0, more)
        hold.amount += increase
        if hold.tokens is not None:
            hold.tokens += more
        hold.deadline_ms = max(hold.deadline_ms, now_ms + asked.ttl_ms)
        return Granted("enlarged", hold.amount, self.windows(asked.path), shadowed)

    def _count(self, path: tuple[Level, ...], requests: int, tokens: int) -> None:
        for ref in self.windows(path):
            self.requests[ref] += requests
            self.tokens[ref] += tokens

    def _object(self, path: tuple[Level, ...], objections: Iterable[Objection]) -> list[Objection]:
        """Those of levels in shadow; the first of another refuses."""
        shadows = {(level.kind, level.id) for level in path if level.shadow}
        noted = []
        for objection in objections:
            if objection[1] not in shadows:
                raise Refusal(objection)
            noted.append(objection)
        return noted

    def _rate_objections(
        self, path: tuple[Level, ...], requests: int, tokens: int
    ) -> Iterator[Objection]:
        for level in path:
            ref = (level.kind, level.id)
            for reason, limit, count, more in (
                ("REQUESTS", level.requests_per_window, self.requests[ref], requests),
                ("TOKENS", level.tokens_per_window, self.tokens[ref], tokens),
            ):
                if limit is not None and more and count + more > limit:
                    yield reason, ref, limit, count, None

    def _call_objections(self, path: tuple[Level, ...]) -> Iterator[Objection]:
        for level in path:
            ref, limit = (level.kind, level.id), level.concurrent_calls
            if limit is not None and self.calls(ref) >= limit:
                yield "CONCURRENCY", ref, limit, self.calls(ref), None

    def _soft_objections(self, capped: list[tuple[Account, Period]]) -> Iterator[Objection]:
        for account, period in capped:
            soft = period.soft_cap_nanousd
            if soft is not None and self.used(account) >= soft:
                yield "SOFTCAP", account[:2], soft, self.used(account), period.name

    def _increase(
        self,
        path: tuple[Level, ...],
        capped: list[tuple[Account, Period]],
        wanted: int,
        least: int,
        shadowed: list[Objection],
    ) -> int:
        """The largest amount from `least` to `wanted` that fits; refused by the tightest level."""
        shadows = {(level.kind, level.id) for level in path if level.shadow}
        for account, period in capped:
            cap = _cap(period)
            if account[:2] in shadows and self.used(account) + least > cap:
                shadowed.append(("HARDCAP", account[:2], cap, self.used(account), period.name))
        room, objection = self._room(path, capped)
        if objection is not None and room < least:
            raise Refusal(objection)
        return min(wanted, room)

    def _room(
        self, path: tuple[Level, ...], capped: list[tuple[Account, Period]]
    ) -> tuple[int, Objection | None]:
        shadows = {(level.kind, level.id) for level in path if level.shadow}
        room, tightest = int(MAX_CAP), None
        for account, period in capped:
            cap = MAX_CAP if account[:2] in shadows else _cap(period)
            if cap - self.used(account) < room:
                room = cap - self.used(account)
                tightest = "HARDCAP", account[:2], cap, self.used(account), period.name
        return room, tightest


def _cap(period: Period) -> int:
    return MAX_CAP if period.hard_cap_nanousd is None else period.hard_cap_nanousd


def _period(asked: Asked, account: Account) -> Period:
    """The account's period as the request has it; where that is long over, the current one."""
    kind, level_id, name, period_id = account
    level = next(lv for lv in asked.path if (lv.kind, lv.id) == (kind, level_id))
    by_id = {period.id: period for period in level.periods if period.name == name}
    return by_id.get(period_id) or by_id[asked.current[name]]
