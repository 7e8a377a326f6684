"""Admission in plain Python: what the library must answer, written without looking at it.

Windows never move on here (the test's window is years long), so that every count is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tenantplane.core.money import MAX_CAP
from tenantplane.core.valkey.requests import Level, Stage

Account = tuple[str, str, str]  # kind, level id, period name
RANK = {"held": 0, "released": 1, "estimated": 2, "actual": 3}


@dataclass
class OracleHold:
    path: tuple[Level, ...]
    amount: int
    tokens: int | None  # None: installed, its tokens are in no window
    state: str = "held"

    def accounts(self) -> list[Account]:
        return [
            (level.kind, level.id, period.name) for level in self.path for period in level.periods
        ]


@dataclass
class Oracle:
    settled: dict[Account, int] = field(default_factory=dict)
    holds: dict[str, OracleHold] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def held(self, account: Account) -> int:
        return sum(
            hold.amount
            for hold in self.holds.values()
            if hold.state == "held" and account in hold.accounts()
        )

    def used(self, account: Account) -> int:
        return self.settled.get(account, 0) + self.held(account)

    def admit(
        self, hold_id: str, path: tuple[Level, ...], amount: int, tokens: int, continues: bool
    ) -> str:
        """The placing, or the reason of the refusal."""
        hold = self.holds.get(hold_id)
        if hold and hold.state != "held":
            return "SETTLED"
        if hold and amount <= hold.amount:
            return "same"
        increase = amount - (hold.amount if hold else 0)
        more_tokens = (
            tokens if not hold else max(0, tokens - hold.tokens) if hold.tokens is not None else 0
        )
        refusal = self._window_refusal(path, 0 if hold else 1, more_tokens) or self._cap_refusal(
            path, increase, running=continues or hold is not None
        )
        if refusal:
            return refusal
        for level in path:
            if level.requests_per_window is not None or level.tokens_per_window is not None:
                self.requests[level.id] = self.requests.get(level.id, 0) + (0 if hold else 1)
                self.tokens[level.id] = self.tokens.get(level.id, 0) + more_tokens
        if not hold:
            self.holds[hold_id] = OracleHold(path, amount, tokens)
            return "new"
        hold.amount = amount
        if hold.tokens is not None:
            hold.tokens += more_tokens
        return "enlarged"

    def _window_refusal(self, path: tuple[Level, ...], requests: int, tokens: int) -> str | None:
        for level in path:
            for reason, limit, counts, more in (
                ("REQUESTS", level.requests_per_window, self.requests, requests),
                ("TOKENS", level.tokens_per_window, self.tokens, tokens),
            ):
                if limit is not None and more and counts.get(level.id, 0) + more > limit:
                    return reason
        return None

    def _cap_refusal(self, path: tuple[Level, ...], increase: int, *, running: bool) -> str | None:
        caps = [
            (self.used((level.kind, level.id, period.name)), period)
            for level in path
            for period in level.periods
        ]
        for used, period in caps:
            if (
                not running
                and period.soft_cap_nanousd is not None
                and used >= period.soft_cap_nanousd
            ):
                return "SOFTCAP"
        for used, period in caps:
            hard = MAX_CAP if period.hard_cap_nanousd is None else period.hard_cap_nanousd
            if used + increase > hard:
                return "HARDCAP"
        return None

    def settle(self, hold_id: str, stage: Stage, amount: int, tokens: int | None) -> int | str:
        """The difference, or why nothing changes."""
        hold = self.holds.get(hold_id)
        if not hold:
            return "none"
        if RANK[stage.value] <= RANK[hold.state]:
            return "already"
        difference = amount if hold.state == "held" else amount - hold.amount
        for account in hold.accounts():
            self.settled[account] = self.settled.get(account, 0) + difference
        if tokens is not None and hold.tokens is not None:
            for level in hold.path:
                if level.tokens_per_window is not None:
                    self.tokens[level.id] += tokens - hold.tokens
            hold.tokens = tokens
        hold.state, hold.amount = stage.value, amount
        return difference

    def rebuild(self) -> None:
        """A new epoch: settled amounts and what is unfinished stay, all else is forgotten."""
        self.requests.clear()
        self.tokens.clear()
        self.holds = {
            hold_id: OracleHold(hold.path, hold.amount, None, hold.state)
            for hold_id, hold in self.holds.items()
            if hold.state in ("held", "estimated")
        }
