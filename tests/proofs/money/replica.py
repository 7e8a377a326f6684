"""Replicas of the data plane that stop at named gaps of a call, to be killed there.

    python -m tests.proofs.money.replica      one JSON line per replica in, its process id out

Each replica is a process of its own with uvicorn as production has it, forked from one that has
imported everything: LangGraph alone takes seconds. Nothing of the product knows of this: its
classes are derived from, and the derived ones put in their places. What a replica is told comes
over a Unix socket:

    → {"gap": …, "passes": n, "dies": bool}    stop (or die) at the n-th call that comes to the gap
    ← {"reached": gap}                         it stands there now
    → {"go_on": true}
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import uvloop

from tenantplane.core.telemetry import logging as telemetry
from tenantplane.core.valkey.answers import AdmitAnswer, Admitted, SettleAnswer
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import AdmitRequest
from tenantplane.dataplane import app
from tenantplane.dataplane.ledger import meter as metering
from tenantplane.dataplane.ledger.epoch import EPOCH
from tenantplane.dataplane.ledger.journal import Journal
from tenantplane.dataplane.ledger.meter import Meter, OpenCall
from tenantplane.dataplane.ledger.rows import (
    IntentRow,
    IntentStatus,
    OutcomeAnswer,
    OutcomeRow,
    OutcomeStatus,
)
from tenantplane.dataplane.ledger.times import LedgerTimes
from tenantplane.dataplane.server import serve
from tenantplane.dataplane.settings import DataPlaneSettings


class FaultPoints:
    """Where this process stops. One order at a time."""

    _socket: socket.socket

    def __init__(self) -> None:
        self._order: dict[str, Any] | None = None
        self._go_on = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def connect(self, path: str, replica: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._socket.setblocking(False)
        self._tell({"replica": replica})
        self._listening = asyncio.create_task(self._listen())

    async def reached(self, gap: str) -> None:
        order = self._order
        if order is None or order["gap"] != gap:
            return
        order["passes"] -= 1
        if order["passes"] > 0:
            return
        self._order = None
        self._go_on.clear()
        self._tell({"reached": gap})
        if order["dies"]:
            die()
        await self._go_on.wait()

    def _tell(self, message: dict[str, Any]) -> None:
        # Straight into the kernel: a process that dies at its next statement has said it.
        self._socket.send(json.dumps(message).encode() + b"\n")

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        unread = b""
        while data := await loop.sock_recv(self._socket, 4096):
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "go_on" in message:
                    self._go_on.set()
                else:
                    self._order = message
        die()  # the test is over, however it ended


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives SIGKILL")


POINTS = FaultPoints()
# What this process does wrong on purpose, so that the checks can be seen to notice. "" is nothing.
SABOTAGE = ""
TIMES = LedgerTimes()
LONGEST_CALL_SECONDS = 1.0


class FaultyStore(AdmissionStore):
    async def admit(self, request: AdmitRequest) -> AdmitAnswer:
        await POINTS.reached("before_hold")
        answer = await super().admit(request)
        if isinstance(answer, Admitted) and request.hold_nanousd > 0:
            await POINTS.reached("hold_to_intent")
        return answer

    async def settle(
        self, root_org_id: str, epoch: int, hold_id: str, stage: Any, nanousd: int, *rest: Any
    ) -> SettleAnswer:
        wrong = 2 if SABOTAGE == "settles twice" else 1
        answer = await super().settle(root_org_id, epoch, hold_id, stage, nanousd * wrong, *rest)
        await POINTS.reached("after_settle")
        return answer


class FaultyJournal(Journal):
    _outcomes_seen = 0

    def intend(self, row: IntentRow) -> asyncio.Future[IntentStatus]:
        if SABOTAGE == "any epoch":
            return asyncio.ensure_future(self._intend_in_any_epoch(row))
        return super().intend(row)

    async def conclude(self, row: OutcomeRow) -> OutcomeAnswer:
        await POINTS.reached("call_to_outcome")
        self._outcomes_seen += 1
        if SABOTAGE == "drops outcomes" and self._outcomes_seen % 7 == 0:
            return OutcomeAnswer(OutcomeStatus.OK, row.event_id, row.record_id, row.cost_nanousd)
        answer = await super().conclude(row)
        await POINTS.reached("outcome_to_settle")
        return answer

    async def _intend_in_any_epoch(self, row: IntentRow) -> IntentStatus:
        async with self._database.system_tx(EPOCH) as cursor:
            await cursor.execute("SELECT epoch FROM dataplane.ledger_epoch")
            found = await cursor.fetchone()
        assert found is not None
        return await super().intend(replace(row, epoch=found["epoch"]))


class FaultyMeter(Meter):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **(named | {"times": TIMES}))

    async def open(self, tenant: Any, snapshot: Any, request: Any) -> OpenCall:
        # What a crash leaves open ends while the test waits for it.
        short = min(request.deadline_seconds, LONGEST_CALL_SECONDS)
        opened = await super().open(tenant, snapshot, replace(request, deadline_seconds=short))
        await POINTS.reached("intent_to_call")
        return opened


# Where the plane takes these classes from.
_IN_PLACE_OF: tuple[tuple[ModuleType, str, type], ...] = (
    (app, "AdmissionStore", FaultyStore),
    (app, "Meter", FaultyMeter),
    (metering, "Journal", FaultyJournal),
)


async def _serve(orders: dict[str, Any]) -> None:
    await POINTS.connect(orders["socket"], orders["replica"])
    await serve(DataPlaneSettings.from_environment(), "127.0.0.1", orders["port"])


def _run(orders: dict[str, Any]) -> NoReturn:
    global SABOTAGE, TIMES  # noqa: PLW0603 (one process, one way)
    SABOTAGE = orders["sabotage"]
    TIMES = LedgerTimes(**{k: timedelta(seconds=v) for k, v in orders["times"].items()})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with Path(orders["log"]).open("ab") as log:
        os.dup2(log.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)
    os.environ |= orders["environment"]
    telemetry.configure("dataplane")
    for module, name, derived in _IN_PLACE_OF:
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, derived)
    code = 1
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(orders))
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: no zombies
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        print(child, flush=True)


if __name__ == "__main__":
    main()
