"""Random histories of holds over trees of levels: the library and the oracle agree at each step.

    python -m tests.proofs.money.model_checker --seed 7 --decisions 25000     prints a line of JSON

One process has a Valkey of its own and drives histories beside each other, each on a root of its
own: round by round all go some steps, then the server loses something, and all are rebuilt from
what the oracle knows, as a plane rebuilds them from Postgres. A seed makes the same histories
again. The server's clock is the machine's: days and months pass by naming later ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from redis.asyncio import Redis

from tenantplane.core.valkey import keys
from tenantplane.core.valkey.answers import (
    AdmitAnswer,
    Admitted,
    AlreadySettled,
    Begun,
    EpochLost,
    Installed,
    NoHold,
    Refused,
    Settled,
    Spend,
    Stale,
)
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tenantplane.core.valkey.requests import (
    AdmitRequest,
    Installation,
    InstalledHold,
    Level,
    Period,
    SettledAmount,
    Slot,
    Stage,
)
from tests.proofs.money.admission_oracle import Account, Asked, Granted, Hold, Oracle, Ref

# Its buckets are 115 days long: no count ages within a run.
WINDOW_MS = 30 * 10**10
# Half a day to both sides: no border comes near.
START = int(time.time()) - 43_200
END = START + 86_400
HISTORIES = 40
# Hold id, stage, amount and tokens.
Settlement = tuple[str, Stage, int, int | None]
STEPS_OF_A_ROUND = 60
HOLD_IDS = 14
TTL_SECONDS = 7200


class Violation(AssertionError):
    """The library and the oracle disagree, or an invariant is broken."""


@dataclass(frozen=True)
class Clock:
    """Which day and month it is for a history."""

    day: int = 1
    month: int = 1

    @property
    def current(self) -> dict[str, str]:
        return {"day": f"d{self.day}", "month": f"m{self.month}", "run": "all"}


@lru_cache(maxsize=10_000)
def level_at(level: Level, clock: Clock) -> Level:
    """The level with the periods that a plane gives at this time: the last, this, the next one.
    Only of levels as they were made, with one period of each name."""
    now = {"day": ("d", clock.day), "month": ("m", clock.month)}
    periods: list[Period] = []
    for period in level.periods:
        if period.name == "run":
            periods.append(period)
            continue
        letter, number = now[period.name]
        for shift in (-1, 0, 1):
            periods.append(
                replace(
                    period,
                    id=f"{letter}{number + shift}",
                    start_unix=START + shift * 86_400,
                    end_unix=END + shift * 86_400,
                )
            )
    return replace(level, periods=tuple(periods))


def random_level(dice: random.Random, kind: str, level_id: str, size: int) -> Level:
    def maybe(chance: float, least: int, most: int) -> int | None:
        return dice.randint(least, most) if dice.random() < chance else None

    named: list[str] = ["run"] if kind == "run" else []
    if kind == "org" or dice.random() < 0.6:
        named += [name for name in ("day", "month") if kind != "run" and dice.random() < 0.8]
    return Level(
        kind,
        level_id,
        requests_per_window=maybe(0.3, 4, 12 * size),
        tokens_per_window=maybe(0.3, 40, 120 * size),
        concurrent_calls=maybe(0.4, 1, 3 * size),
        shadow=dice.random() < 0.15,
        periods=tuple(
            Period(name, "all", START, END, maybe(0.2, 20, 80 * size), maybe(0.7, 30, 120 * size))
            for name in named
        ),
    )


class History:
    """One root: what happens to it, and what must come of it."""

    def __init__(self, store: AdmissionStore, seed: str, number: int) -> None:
        self.store = store
        self.dice = random.Random(f"{seed}/{number}")
        self.root = f"root-{number}"
        self.oracle = Oracle()
        self.clock = Clock()
        self.epoch = 0
        self.decisions = 0
        self.log: deque[object] = deque(maxlen=12)
        self.path_of: dict[str, tuple[Level, ...]] = {}
        # In half of the histories no settlement passes its hold: caps hold without any excess.
        self.exceeds = self.dice.random() < 0.5
        self.paths = self._random_paths()
        enforcing = [level for path in self.paths for level in path if not level.shadow]
        self.caps = {
            (level.kind, level.id, period.name, period.hard_cap_nanousd)
            for level in enforcing
            for period in level.periods
            if period.hard_cap_nanousd is not None
        }
        self.call_limits = {
            (level.kind, level.id): level.concurrent_calls
            for level in enforcing
            if level.concurrent_calls is not None
        }
        self.calls_installed: Counter[Ref] = Counter()

    def _random_paths(self) -> list[tuple[Level, ...]]:
        dice = self.dice
        depth = dice.randint(1, 4)
        orgs = [random_level(dice, "org", f"{self.root}.{n}", 8 - 2 * n) for n in range(depth)]
        orgs = [replace(org, id=f"o{n}") for n, org in enumerate(orgs)]
        users = [random_level(dice, "user", f"o/user|{n}:x", 2) for n in range(3)]
        api_keys = [random_level(dice, "key", f"o/k{n}", 2) for n in range(2)]
        runs = [random_level(dice, "run", f"r{n}", 1) for n in range(3)]
        paths = []
        for _ in range(8):
            below = [dice.choice(kind) for kind in (users, api_keys, runs) if dice.random() < 0.6]
            paths.append((*orgs[: dice.randint(1, depth)], *below))
        return paths

    async def step(self) -> None:
        action = self.dice.choices(
            [self.admit, self.settle, self.release, self.sweep, self.let_time_pass],
            [55, 30, 8, 4, 3],
        )[0]
        self.decisions += 1
        await action()
        self._check_caps()

    def _some_holds(self) -> list[str]:
        """One, or some that go together in one command: each is decided on what those before it left."""
        count = self.dice.choice([1, 1, 1, 2, 5])
        return [f"h{number}" for number in self.dice.sample(range(HOLD_IDS), count)]

    async def admit(self) -> None:
        every = [self._asked(hold_id) for hold_id in self._some_holds()]
        self.decisions += len(every) - 1
        self.log.append(every)
        requests = [self._request(asked) for asked in every]
        answers = await asyncio.gather(*map(self.store.admit, requests))
        # A refusal leaves no trace; of what was granted a tenth is looked at.
        looked_at = [
            asked.path
            for asked, answer in zip(every, answers, strict=True)
            if self._is_refused(asked, answer) or self.dice.random() < 0.1
        ]
        for path in looked_at:
            await self._compare_levels(list(path))

    def _asked(self, hold_id: str) -> Asked:
        dice = self.dice
        known = self.oracle.holds.get(hold_id)
        path = dice.choice(self.paths)
        if known:
            path = self.path_of[hold_id]
        else:
            self.path_of[hold_id] = path
        path = tuple(level_at(level, self.clock) for level in path)
        if dice.random() < 0.02:
            at = dice.randrange(len(path))
            path = (*path[:at], replace(path[at], suspended=True), *path[at + 1 :])
        amount = dice.choice([0, dice.randint(1, 60), dice.randint(1, 60), dice.randint(60, 400)])
        least = dice.choice([amount, amount, dice.randint(0, amount)])
        return Asked(
            hold_id,
            path,
            amount,
            least,
            dice.choice([0, dice.randint(1, 30), dice.randint(1, 120)]),
            dice.random() < 0.3,
            dice.choice([5, 5, 5, 5, 6, 4]) + self.clock.day,
            f"o{dice.randrange(2)}",
            self.clock.current,
            TTL_SECONDS * 1000,
        )

    def _is_refused(self, asked: Asked, answer: AdmitAnswer) -> bool:
        """The answer is the oracle's, to whom the calls of one command come in their order."""
        expected = self.oracle.admit(asked, int(time.time() * 1000))
        match answer, expected:
            case Stale(version), int() as known_version:
                self._same(version, known_version)
            case Admitted(), Granted():
                self._same_grant(answer, expected)
            case Refused(), tuple():
                self._same(_objection(answer), expected)
                return True
            case _:
                raise self._violation(f"answered {answer}, expected {expected}")
        return False

    def _request(self, asked: Asked) -> AdmitRequest:
        return AdmitRequest(
            self.root,
            self.epoch,
            asked.org_id,
            asked.version,
            asked.hold_id,
            asked.amount,
            asked.tokens,
            TTL_SECONDS,
            asked.path,
            asked.continues,
            WINDOW_MS,
            None if asked.least == asked.amount else asked.least,
        )

    def _same_grant(self, answer: Admitted, expected: Granted) -> None:
        self._same(answer.placing.value, expected.placing)
        self._same(answer.held_nanousd, expected.held)
        self._same(_windows(answer), expected.windows)
        self._same([_objection(refused) for refused in answer.shadowed], expected.shadowed)
        for use in answer.windows:
            for count, reset_ms in (
                (use.requests, use.requests_reset_ms),
                (use.tokens, use.tokens_reset_ms),
            ):
                if (count > 0) != (0 < reset_ms <= WINDOW_MS * 31 // 30):
                    raise self._violation(f"resets in {reset_ms} with {count} counted")

    async def settle(self) -> None:
        every = [self._settlement(hold_id) for hold_id in self._some_holds()]
        self.decisions += len(every) - 1
        await self._settled(every)

    def _settlement(self, hold_id: str) -> Settlement:
        dice = self.dice
        hold = self.oracle.holds.get(hold_id)
        most = hold.amount if hold and not self.exceeds else 100
        stage = dice.choice([Stage.ESTIMATED, Stage.ACTUAL, Stage.ACTUAL])
        tokens = dice.choice([None, dice.randint(0, 60)])
        return hold_id, stage, dice.randint(0, most), tokens

    async def release(self) -> None:
        await self._settled([(self._some_hold(), Stage.RELEASED, 0, 0)])

    async def sweep(self) -> None:
        """What is listed as expired is released, unless its deadline is to come."""
        listed = await self.store.expired(self.root, self.epoch, 1000)
        if not isinstance(listed, tuple):
            raise self._violation(f"expired() answered {listed}")
        expired = self.oracle.expired(int(time.time() * 1000))
        self._same({hold.hold_id for hold in listed}, expired)
        hold_id = self._some_hold()
        early = hold_id not in expired and self._is_open(hold_id)
        if early and self.oracle.holds[hold_id].deadline_ms > time.time() * 1000:
            answer = await self.store.release(self.root, self.epoch, hold_id, expired_only=True)
            self._same(answer, AlreadySettled("held", self.oracle.holds[hold_id].amount))
        elif hold_id in expired:
            self._same(self.oracle.settle(hold_id, "released", 0, 0), 0)
            answer = await self.store.release(self.root, self.epoch, hold_id, expired_only=True)
            self._same(answer, Settled(0))
        await self.compare()

    async def let_time_pass(self) -> None:
        month = self.clock.month + (self.dice.random() < 0.2)
        self.clock = Clock(self.clock.day + 1, month)
        await self.compare()

    async def _settled(self, every: list[Settlement]) -> None:
        self.log.append(("settle", every))
        answers = await asyncio.gather(
            *(self.store.settle(self.root, self.epoch, *settlement) for settlement in every)
        )
        for (hold_id, stage, amount, tokens), answer in zip(every, answers, strict=True):
            match self.oracle.settle(hold_id, stage.value, amount, tokens):
                case "none":
                    self._same(answer, NoHold())
                case "already":
                    hold = self.oracle.holds[hold_id]
                    self._same(answer, AlreadySettled(hold.state, hold.amount))
                case difference:
                    self._same(answer, Settled(int(difference)))
        if self.dice.random() < 0.1:
            await self.compare()

    def _some_hold(self) -> str:
        return f"h{self.dice.randrange(HOLD_IDS)}"

    def _is_open(self, hold_id: str) -> bool:
        hold = self.oracle.holds.get(hold_id)
        return hold is not None and hold.state == "held"

    async def compare(self) -> None:
        """What the server says of every level, now and in the days before, is what must be."""
        for back in range(min(2, self.clock.day)):
            clock = Clock(self.clock.day - back, max(1, self.clock.month - back))
            await self._compare_at(clock)

    async def _compare_at(self, clock: Clock) -> None:
        by_ref = {(lv.kind, lv.id): lv for path in self.paths for lv in path}
        every = [level_at(level, clock) for level in by_ref.values()]
        for at in range(0, len(every), 16):
            await self._compare_levels(every[at : at + 16])

    async def _compare_levels(self, levels: list[Level]) -> None:
        spend = await self.store.spend(self.root, self.epoch, levels, WINDOW_MS)
        if not isinstance(spend, Spend):
            raise self._violation(f"spend() answered {spend}")
        for seen in spend.periods:
            account = (seen.level_kind, seen.level_id, seen.period, seen.period_id)
            self._same(
                (account, seen.settled_nanousd, seen.held_nanousd),
                (account, self.oracle.settled[account], self.oracle.held(account)),
            )
        self._same(_windows(spend), self.oracle.windows(levels))
        for calls in spend.calls:
            ref = (calls.level_kind, calls.level_id)
            self._same((ref, calls.calls), (ref, self.oracle.calls(ref)))

    def _check_caps(self) -> None:
        """Settled and held, less what settlements added beyond their holds, is within each hard
        cap; and no level has more calls at a time than it may, but for what an install brought."""
        current = self.clock.current
        for kind, level_id, name, cap in self.caps:
            account: Account = (kind, level_id, name, current[name])
            if self.oracle.used(account) > cap + self.oracle.excess[account]:
                raise self._violation(f"{account} is past its cap of {cap}")
        for ref, calls in self.call_limits.items():
            if self.oracle.calls(ref) > max(calls, self.calls_installed[ref]):
                raise self._violation(f"{ref} has more than {calls} calls at a time")

    async def install(self, epoch: int) -> None:
        self.epoch = epoch
        self.oracle.rebuild()
        for hold in self.oracle.holds.values():
            if self.dice.random() < 0.3:
                hold.deadline_ms = (START + self.dice.randrange(40_000)) * 1000
        installation = Installation(
            self.root,
            epoch,
            settled=[
                SettledAmount(_slot(account), amount)
                for account, amount in self.oracle.settled.items()
            ],
            holds=[_installed(hold_id, hold) for hold_id, hold in self.oracle.holds.items()],
            snapshot_versions=dict(self.oracle.versions),
        )
        self.log.append(installation)
        self._same(await self.store.install(installation), Installed())
        # A hold counts at all levels of its accounts again, also where it did not before.
        self.calls_installed = Counter({ref: self.oracle.calls(ref) for ref in self.call_limits})
        await self.compare()

    async def expect_epoch_lost(self) -> None:
        answer = await self.store.expired(self.root, self.epoch)
        if not isinstance(answer, EpochLost):
            raise self._violation(f"after a loss: {answer}")

    def _same(self, seen: object, expected: object) -> None:
        if seen != expected:
            raise self._violation(f"saw {seen}, expected {expected}")

    def _violation(self, what: str) -> Violation:
        last = "\n  ".join(map(str, self.log))
        return Violation(f"{self.root}: {what}\nlast of its history:\n  {last}")


def _objection(refused: Refused) -> tuple[str, tuple[str, str], int, int, str | None]:
    ref = (refused.level_kind, refused.level_id)
    return refused.reason.value, ref, refused.limit, refused.used, refused.period


def _windows(answer: Admitted | Spend) -> dict[tuple[str, str], tuple[int, int]]:
    return {(use.level_kind, use.level_id): (use.requests, use.tokens) for use in answer.windows}


def _slot(account: Account) -> Slot:
    kind, level_id, name, period_id = account
    return Slot(kind, level_id, name, period_id, END)


def _installed(hold_id: str, hold: Hold) -> InstalledHold:
    # Postgres keeps whole seconds; the oracle must not know more.
    hold.deadline_ms = hold.deadline_ms // 1000 * 1000
    return InstalledHold(
        hold_id,
        hold.amount,
        hold.deadline_ms // 1000,
        tuple(_slot(account) for account in hold.accounts),
        estimated=hold.state == "estimated",
    )


class Losses:
    """What a server may lose; each says which histories must notice."""

    def __init__(self, server: EmbeddedValkey, redis: Redis, dice: random.Random) -> None:
        self._server, self._redis, self._dice = server, redis, dice

    def any(self) -> Callable[[list[History]], Awaitable[list[History]]]:
        return self._dice.choice(
            [self.flush, self.flush_functions, self.evict, self.evict_hold, self.kill, self.nothing]
        )

    async def flush(self, histories: list[History]) -> list[History]:
        await self._redis.flushall()
        return histories

    async def flush_functions(self, histories: list[History]) -> list[History]:
        await self._redis.function_flush()
        return histories

    async def evict(self, histories: list[History]) -> list[History]:
        """The money of one root, or its open holds."""
        history = self._dice.choice(histories)
        money, deadlines, _ = keys.of_root(history.root, history.epoch)
        await self._redis.delete(deadlines if await self._redis.exists(deadlines) else money)
        return [history]

    async def evict_hold(self, histories: list[History]) -> list[History]:
        for history in histories:
            for hold_id, hold in history.oracle.holds.items():
                if hold.state == "held" and hold.amount > 0:
                    key = keys.of_hold(history.root, hold_id, history.epoch)
                    await self._redis.delete(key)
                    answer = await history.store.settle(
                        history.root, history.epoch, hold_id, Stage.ACTUAL, 1
                    )
                    if not isinstance(answer, EpochLost):
                        raise Violation(f"{history.root}: an evicted hold is settled: {answer}")
                    return histories
        return []

    async def kill(self, histories: list[History]) -> list[History]:
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.run)
        return histories

    async def nothing(self, histories: list[History]) -> list[History]:
        """Another process raises the epoch."""
        return []


async def check(seed: str, decisions: int) -> dict[str, object]:
    """Raises Violation. The figures of the run."""
    folder = Path(tempfile.mkdtemp(prefix="vk"))
    server = EmbeddedValkey.start(folder)
    store = AdmissionStore(server.settings.model_copy(update={"timeout_seconds": 30.0}))
    redis = Redis.from_url(server.url)
    dice = random.Random(seed)
    lost: list[str] = []
    try:
        await store.open()
        histories = [History(store, seed, number) for number in range(HISTORIES)]
        epoch = 0
        while sum(history.decisions for history in histories) < decisions:
            epoch += 1
            if await store.begin_epoch(epoch) != Begun():
                raise Violation(f"epoch {epoch} is not begun")
            await _all(history.install(epoch) for history in histories)
            await _all(map(_round, histories))
            lose = Losses(server, redis, dice).any()
            lost.append(lose.__name__)
            await _lose(lose, histories, store, epoch)
    finally:
        await redis.aclose()
        await store.close()
        server.kill()
        shutil.rmtree(folder)
    made = sum(history.decisions for history in histories)
    return {"seed": seed, "decisions": made, "epochs": epoch, "losses": sorted(set(lost))}


async def _all(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Beside each other; the first violation ends the others too."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _round(history: History) -> None:
    for _ in range(STEPS_OF_A_ROUND):
        await history.step()


async def _lose(
    lose: Callable[[list[History]], Awaitable[list[History]]],
    histories: list[History],
    store: AdmissionStore,
    epoch: int,
) -> None:
    noticing = await lose(histories)
    if lose.__name__ == "kill":
        # A connection that died unnoticed fails once, as any call of a plane may.
        await store.close()
    for history in noticing:
        await history.expect_epoch_lost()
    if lose.__name__ in ("kill", "flush_functions") or not noticing:
        return  # nothing is left that could remember, or nothing was lost
    if await store.begin_epoch(epoch) == Begun():
        raise Violation(f"epoch {epoch} was lost, and begun again")


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.money.model_checker")
    parser.add_argument("--seed", required=True)
    parser.add_argument("--decisions", type=int, default=25_000)
    options = parser.parse_args()
    try:
        print(json.dumps(asyncio.run(check(options.seed, options.decisions))))
    except Violation as violation:
        print(f"seed {options.seed}: {violation}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
