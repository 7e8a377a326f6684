"""What isolation of state costs: the checkpointer beside LangGraph's own, and RLS beside none.

One Postgres of the embedded kind, fsync on, serves all that is compared; rounds take turns, so that
whatever else the machine does meets all alike.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from bench import results
from bench.results import Figure
from bench.state_checkpointers import Contender, contenders, runs_per_second
from bench.state_policies import policy_figures
from tenantplane.core.db.bootstrap import RolePasswords
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.provision import ContextKey, Provisioned, provision

MIGRATIONS = Path("dataplane/tenantplane/dataplane/db/migrations")
ROUNDS = 7
LONG_THREAD_MESSAGES = 200
_RUNS_OF_A_ROUND = {"ours": 640, "stock": 240, "memory": 640}
_LONG_RUNS_OF_A_ROUND = 48
_PACKAGES = ("langgraph", "langgraph-checkpoint", "psycopg", "psycopg-pool", "cryptography")


def run(*, cold: bool) -> None:
    """Runs the suite, about two minutes; there is nothing to leave out where `cold` is false."""
    del cold
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(_measure())
    results.write("state", figures, _PACKAGES)


async def _measure() -> list[Figure]:
    # Not in a home: the server's own user must reach its folder.
    folder = Path(tempfile.mkdtemp(prefix="tenantplane-bench-state-"))
    server = EmbeddedPostgres.start(folder)
    try:
        provisioned = await _provisioned(server)
        figures = await _checkpointers(server, provisioned)
        return figures + await _policies(provisioned)
    finally:
        server.stop(immediate=True)
        shutil.rmtree(folder)


async def _provisioned(server: EmbeddedPostgres) -> Provisioned:
    return await provision(
        server.admin_dsn(),
        "data",
        MIGRATIONS,
        RolePasswords.generate(),
        ContextKey("k1", secrets.token_bytes(32)),
    )


async def _checkpointers(server: EmbeddedPostgres, provisioned: Provisioned) -> list[Figure]:
    async with AsyncExitStack() as opened:
        compared = await contenders(opened, server, provisioned)
        short = await _interleaved(compared, _RUNS_OF_A_ROUND, messages=0)
        long = await _interleaved(
            compared, dict.fromkeys(compared, _LONG_RUNS_OF_A_ROUND), messages=LONG_THREAD_MESSAGES
        )
    return [
        results.at_least("state.checkpointer_vs_stock", _ratios(short), "x", 3),
        *(results.plain(f"state.runs_{name}", found, "1/s") for name, found in short.items()),
        results.plain("state.long_thread_vs_stock", _ratios(long), "x"),
        *(results.plain(f"state.long_runs_{name}", found, "1/s") for name, found in long.items()),
    ]


async def _interleaved(
    compared: Mapping[str, Contender], runs: Mapping[str, int], *, messages: int
) -> dict[str, list[float]]:
    """Runs a second of each contender, round by round; the first, unmeasured round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in compared}
    for name, contender in compared.items():
        await runs_per_second(contender, max(16, runs[name] // 4), messages)
    for _ in range(ROUNDS):
        for name, contender in compared.items():
            rates[name].append(await runs_per_second(contender, runs[name], messages))
        print(
            f"  {messages} messages: " + ", ".join(f"{n} {r[-1]:.0f}/s" for n, r in rates.items()),
            flush=True,
        )
    return rates


def _ratios(rates: Mapping[str, Sequence[float]]) -> list[float]:
    return [ours / stock for ours, stock in zip(rates["ours"], rates["stock"], strict=True)]


async def _policies(provisioned: Provisioned) -> list[Figure]:
    found = await policy_figures(provisioned, ROUNDS)
    worse = [max(pair) for pair in zip(found["point"], found["list"], strict=True)]
    return [
        results.at_most("state.rls_ratio", worse, "x", 1.10),
        results.plain("state.rls_point_ratio", found["point"], "x"),
        results.plain("state.rls_list_ratio", found["list"], "x"),
        results.plain("state.tenant_tx_point_ratio", found["point_tx"], "x"),
        results.plain("state.tenant_tx_list_ratio", found["list_tx"], "x"),
        results.plain("state.tenant_tx_point_us", found["point_rls_us"], "us"),
        results.plain("state.bare_tx_point_us", found["point_where_us"], "us"),
    ]
