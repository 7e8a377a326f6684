"""A process of the plane that dies by SIGKILL at a named gap of one request with a key.

    python -m tests.proofs.money.dying_requests

Reads orders from standard input, a line of JSON each, and answers each with a line: by which signal
the process died that it forked for it. Forked, since what a plane imports takes seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from typing import Any, Final

from pydantic import SecretStr

from tenantplane.core.db.pool import Database
from tenantplane.core.db.settings import DatabaseSettings
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.core.valkey.settings import ValkeySettings
from tenantplane.dataplane.ledger.meter import Meter, OpenCall
from tenantplane.dataplane.ledger.requests import Claim, ClaimAnswer, RequestJournal
from tenantplane.dataplane.ledger.rows import OutcomeAnswer, OutcomeRow
from tests.proofs.money.dying_process import DyingStore, die
from tests.proofs.money.small_plane import request_journal, small_plane

# In the order of one request. What comes after `answered` is as if it had not died.
GAPS: Final = (
    "before_claim",
    "claim_to_hold",
    "hold_to_intent",
    "intent_to_call",
    "call_to_outcome",
    "outcome_to_settle",
    "settled_to_kept",
    "kept_to_answered",
)


class DyingJournal(RequestJournal):
    gap = ""

    async def claim(self, claim: Claim) -> ClaimAnswer:
        if self.gap == "before_claim":
            die()
        answer = await super().claim(claim)
        if self.gap == "claim_to_hold":
            die()
        return answer

    async def keep(self, claim: Claim, response: bytes | None) -> None:
        if self.gap == "settled_to_kept":
            die()
        await super().keep(claim, response)
        if self.gap == "kept_to_answered":
            die()


class DyingMeter(Meter):
    gap = ""

    async def start(self) -> None:
        await super().start()
        conclude = self.journal.conclude

        async def dying_conclude(row: OutcomeRow) -> OutcomeAnswer:
            if self.gap == "call_to_outcome":
                die()
            return await conclude(row)

        self.journal.conclude = dying_conclude  # type: ignore[method-assign]

    async def open(self, *args: Any, **kwargs: Any) -> OpenCall:
        opened = await super().open(*args, **kwargs)
        if self.gap == "intent_to_call":
            die()
        return opened


async def run(orders: dict[str, Any]) -> None:
    async with AsyncExitStack() as opened:
        database = Database(
            DatabaseSettings(
                **{n: SecretStr(orders[n]) for n in ("app_dsn", "system_dsn", "context_key")},
                context_key_id=orders["context_key_id"],
            ),
            name="data",
        )
        await database.open()
        store = DyingStore(ValkeySettings(url=SecretStr(orders["valkey_url"])))
        await store.open()
        provider = LocalKeyProvider(bytes.fromhex(orders["master_key"]))
        meter = DyingMeter(database, store, provider)
        await meter.start()
        requests = request_journal(database, DyingJournal)
        assert isinstance(requests, DyingJournal)
        plane = await opened.enter_async_context(
            small_plane(database, meter, requests, orders["org"], orders["model_url"])
        )
        store.gap = meter.gap = requests.gap = orders["gap"]
        await plane.chat(orders["text"], orders["key"], stream=orders["stream"])


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(run(json.loads(line)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, flush=True)


if __name__ == "__main__":
    main()
