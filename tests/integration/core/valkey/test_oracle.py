"""Random histories of several levels: the library and plain Python agree at every step."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tenantplane.core.valkey.answers import (
    Admitted,
    AlreadySettled,
    Begun,
    Installed,
    NoHold,
    Refused,
    Settled,
    Spend,
)
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tenantplane.core.valkey.requests import (
    Installation,
    InstalledHold,
    Level,
    SettledAmount,
    Slot,
    Stage,
)
from tests.integration.core.valkey.builders import END, month, request
from tests.integration.core.valkey.oracle import Oracle

# Its buckets are 115 days long: no count ages within a test.
WINDOW_MS = 30 * 10**10
HOLD_IDS = st.sampled_from([f"h{number}" for number in range(8)])
AMOUNTS = st.integers(0, 60)
TOKENS = st.integers(0, 30)

UMBRELLA = Level("umbrella", "u", 40, 400, (month(hard=220, soft=180),))
ORGS = (
    Level("org", "a", 25, None, (month(hard=120, soft=100), month(hard=70, name="day"))),
    Level("org", "b", None, 150, (month(hard=150),)),
)
USERS = (
    Level("user", "a:x", 6, 90, (month(soft=40),)),
    Level("run", "r", None, None, (month(90),)),
)
PATHS = st.sampled_from([(UMBRELLA, org, user) for org in ORGS for user in USERS] + [(ORGS[0],)])
ALL_LEVELS = (UMBRELLA, *ORGS, *USERS)


class AdmissionMachine(RuleBasedStateMachine):
    # Rising over all examples, since they share one server.
    epoch = 0

    store: AdmissionStore
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.root = f"root-{secrets.token_hex(6)}"
        self.oracle = Oracle()

    @initialize()
    def first_epoch(self) -> None:
        self._install()

    @rule(hold_id=HOLD_IDS, path=PATHS, amount=AMOUNTS, tokens=TOKENS, continues=st.booleans())
    def admit(
        self, hold_id: str, path: tuple[Level, ...], amount: int, tokens: int, continues: bool
    ) -> None:
        if hold_id in self.oracle.holds:
            path = self.oracle.holds[hold_id].path
        answer = self.runner.run(
            self.store.admit(
                request(
                    self.root,
                    *path,
                    epoch=AdmissionMachine.epoch,
                    hold_id=hold_id,
                    hold_nanousd=amount,
                    tokens=tokens,
                    continues=continues,
                    window_ms=WINDOW_MS,
                )
            )
        )
        expected = self.oracle.admit(hold_id, path, amount, tokens, continues)
        if isinstance(answer, Refused):
            assert answer.reason.value == expected
        else:
            assert isinstance(answer, Admitted)
            assert answer.placing.value == expected
            assert answer.held_nanousd == self.oracle.holds[hold_id].amount
            for use in answer.windows:
                assert use.requests == self.oracle.requests.get(use.level_id, 0)
                assert use.tokens == self.oracle.tokens.get(use.level_id, 0)

    @rule(
        hold_id=HOLD_IDS,
        stage=st.sampled_from([Stage.ESTIMATED, Stage.ACTUAL]),
        amount=st.integers(0, 90),
        tokens=st.none() | TOKENS,
    )
    def settle(self, hold_id: str, stage: Stage, amount: int, tokens: int | None) -> None:
        self._check_settled(hold_id, stage, amount, tokens)

    @rule(hold_id=HOLD_IDS)
    def release(self, hold_id: str) -> None:
        self._check_settled(hold_id, Stage.RELEASED, 0, 0)

    @rule()
    def lose_the_epoch(self) -> None:
        self.oracle.rebuild()
        self._install()

    @invariant()
    def accounts_agree(self) -> None:
        spend = self.runner.run(self.store.spend(self.root, AdmissionMachine.epoch, ALL_LEVELS))
        assert isinstance(spend, Spend)
        for seen in spend.periods:
            account = (seen.level_kind, seen.level_id, seen.period)
            assert seen.settled_nanousd == self.oracle.settled.get(account, 0)
            assert seen.held_nanousd == self.oracle.held(account)

    def _check_settled(self, hold_id: str, stage: Stage, amount: int, tokens: int | None) -> None:
        answer = self.runner.run(
            self.store.settle(self.root, AdmissionMachine.epoch, hold_id, stage, amount, tokens)
        )
        expected = self.oracle.settle(hold_id, stage, amount, tokens)
        if isinstance(answer, Settled):
            assert answer.difference_nanousd == expected
        elif isinstance(answer, AlreadySettled):
            assert expected == "already"
            hold = self.oracle.holds[hold_id]
            assert (answer.stage, answer.nanousd) == (hold.state, hold.amount)
        else:
            assert answer == NoHold()
            assert expected == "none"

    def _install(self) -> None:
        AdmissionMachine.epoch += 1
        assert self.runner.run(self.store.begin_epoch(AdmissionMachine.epoch)) == Begun()
        installation = Installation(
            self.root,
            AdmissionMachine.epoch,
            settled=[
                SettledAmount(Slot(kind, level, period, "current", END), amount)
                for (kind, level, period), amount in self.oracle.settled.items()
            ],
            holds=[
                InstalledHold(
                    hold_id,
                    hold.amount,
                    END,
                    tuple(Slot(*account, "current", END) for account in hold.accounts()),
                    estimated=hold.state == "estimated",
                )
                for hold_id, hold in self.oracle.holds.items()
            ],
        )
        assert self.runner.run(self.store.install(installation)) == Installed()


def test_library_and_oracle_agree(make_valkey: Callable[[], EmbeddedValkey]) -> None:
    server = make_valkey()
    with asyncio.Runner() as runner:
        store = AdmissionStore(server.settings)
        runner.run(store.open())
        try:
            AdmissionMachine.store, AdmissionMachine.runner = store, runner
            run_state_machine_as_test(
                AdmissionMachine,
                settings=settings(
                    max_examples=60,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(store.close())
