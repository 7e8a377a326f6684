"""A process of the plane that dies by SIGKILL at a named gap of one call.

    python -m tests.proofs.money.dying_process     reads its orders as JSON from standard input

The gap is where the process is killed: no handler, no `finally`, no goodbye to its servers.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from typing import Any, NoReturn

from pydantic import SecretStr

from tenantplane.core.db.pool import Database
from tenantplane.core.db.settings import DatabaseSettings
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.core.valkey.answers import AdmitAnswer, SettleAnswer
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import AdmitRequest
from tenantplane.core.valkey.settings import ValkeySettings
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.ledger.times import LedgerTimes
from tests.fixtures.ledger import a_call, a_snapshot, a_tenant

GAPS = ("before_hold", "hold_to_intent", "intent_to_outcome", "outcome_to_settle", "after_settle")


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives SIGKILL")


class DyingStore(AdmissionStore):
    gap = ""

    async def admit(self, request: AdmitRequest) -> AdmitAnswer:
        answer = await super().admit(request)
        if self.gap == "hold_to_intent" and request.hold_nanousd > 0:
            die()
        return answer

    async def settle(self, *args: Any, **kwargs: Any) -> SettleAnswer:
        if self.gap == "outcome_to_settle":
            die()
        return await super().settle(*args, **kwargs)


async def run(orders: dict[str, Any]) -> None:
    database = Database(
        DatabaseSettings(
            **{name: SecretStr(orders[name]) for name in ("app_dsn", "system_dsn", "context_key")},
            context_key_id=orders["context_key_id"],
        ),
        name="data",
    )
    await database.open()
    store = DyingStore(ValkeySettings(url=SecretStr(orders["valkey_url"])))
    await store.open()
    provider = LocalKeyProvider(bytes.fromhex(orders["master_key"]))
    times = LedgerTimes(**{k: timedelta(seconds=v) for k, v in orders["times"].items()})
    meter = Meter(database, store, provider, times=times)
    await meter.start()

    store.gap = orders["gap"]
    org, snapshot = orders["org"], a_snapshot(orders["org"])
    if store.gap == "before_hold":
        die()
    call = await meter.open(
        a_tenant(org), snapshot, a_call(orders["hold"], deadline_seconds=orders["deadline"])
    )
    if store.gap == "intent_to_outcome":
        die()
    await call.complete(Usage(1, 1, orders["cost"]), "answer")
    die()


if __name__ == "__main__":
    asyncio.run(run(json.load(sys.stdin)))
