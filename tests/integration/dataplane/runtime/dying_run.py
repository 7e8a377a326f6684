"""A process that is killed in the second of three steps: `python -m … THREAD DURABILITY`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Literal, cast

from tenantplane.core.db.pool import Database
from tenantplane.core.db.settings import DatabaseSettings
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.memory import Memory
from tests.integration.dataplane.runtime.graphs import three_steps

Durability = Literal["sync", "async", "exit"]


async def _die(step: str) -> None:
    if step == "second":
        os.kill(os.getpid(), signal.SIGKILL)


async def main(org_id: str, thread_id: str, durability: Durability) -> None:
    database = Database(
        DatabaseSettings.model_validate_json(os.environ["TEST_DATABASE"]), name="data"
    )
    await database.open()
    provider = LocalKeyProvider.from_hex(os.environ["TEST_MASTER_KEY"])
    memory = Memory(database, DataKeys(database, provider))
    await memory.start()
    graph = three_steps(_die).compile(checkpointer=memory.saver(org_id))
    await graph.ainvoke(
        {"done": []}, {"configurable": {"thread_id": thread_id}}, durability=durability
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], cast("Durability", sys.argv[3])))
