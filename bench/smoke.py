"""How long a user waits: demo, dev and up, a hundred tenants at once, and one chat call.

Everything runs as a user runs it: the commands of README, on clusters of this suite's own names.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench import results
from bench.results import Figure
from tenantplane.cli.local.conversation import Tenant
from tenantplane.cli.local.demo import apply_and_key
from tenantplane.cli.local.stack import STEPS, running
from tenantplane.cli.output import Steps
from tools.cluster import provider
from tools.release import Release

EXAMPLES = Path("examples/first")
CLUSTER = "tenantplane-bench"
TENANTS = 100
_CALLS = 400
_LONGEST_WAIT_SECONDS = 120.0
_CALLERS = 4


def run(*, cold: bool) -> None:
    """Runs the suite; about 5 minutes, and 15 more with `cold`."""
    print("demo", flush=True)
    demo = [_seconds([_tool("tenantplane"), "demo"]) for _ in range(3)]
    print("dev", flush=True)
    dev = [_dev_ready() for _ in range(3)]
    print("chat", flush=True)
    chat = asyncio.run(_chat())
    figures = [
        results.at_most("smoke.dev_ready_s", dev, "s", 15),
        results.at_most("smoke.demo_warm_s", demo, "s", 20),
        _p95("smoke.chat_p95_ms", [1000 * seconds for seconds in chat]),
    ]
    if cold:
        print("up, cold", flush=True)
        figures.append(results.plain("smoke.up_cold_s", [_cold_up()], "s"))
    figures += _cluster_figures()
    results.write("smoke", figures, ("kopf", "fastapi", "langgraph", "psycopg", "redis"))


def _cluster_figures() -> list[Figure]:
    print("up, warm caches", flush=True)
    try:
        first = _seconds(_up(CLUSTER))
        again = _seconds(_up(CLUSTER))
        print(f"{TENANTS} tenants", flush=True)
        hundred = [_hundred_tenants(Release(CLUSTER)) for _ in range(3)]
    finally:
        provider.down(CLUSTER)
    return [
        # No cluster yet, but binaries, packages and images in the cache.
        results.at_most("smoke.up_warm_s", [first], "s", 120),
        results.plain("smoke.up_again_s", [again], "s"),
        results.at_most("smoke.tenants_100_s", hundred, "s", 15),
    ]


def _cold_up() -> float:
    """`make up` with empty caches of the project's own and of Go's."""
    name = f"{CLUSTER}-cold"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": cache,
            "GOCACHE": f"{cache}/go-build",
            "GOMODCACHE": f"{cache}/go-mod",
            "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip(),
        }
        try:
            return _seconds(_up(name), environment)
        finally:
            down = [sys.executable, "-m", "tools.cluster", "down", "--name", name]
            subprocess.run(down, env=environment, check=True)


def _hundred_tenants(release: Release) -> float:
    names = [f"bench-{n:03}" for n in range(TENANTS)]
    documents = [
        {
            "apiVersion": "tenantplane.io/v1alpha1",
            "kind": "Tenant",
            "metadata": {"name": name},
            "spec": {"plan": "starter"},
        }
        for name in names
    ]
    started = time.monotonic()
    release.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, documents)))
    # `kubectl wait` asks for one object after the other, which alone takes it ten seconds.
    while _ready(release) < TENANTS:
        if time.monotonic() - started > _LONGEST_WAIT_SECONDS:
            raise RuntimeError(f"{_ready(release)} of {TENANTS} tenants are Ready")
        time.sleep(0.25)
    seconds = time.monotonic() - started
    release.kubectl("delete", "tenant", *names, "--timeout=180s")
    return seconds


def _ready(release: Release) -> int:
    rows = release.kubectl("get", "tenants", "--no-headers").splitlines()
    return sum(row.startswith("bench-") and " True " in row for row in rows)


async def _chat() -> list[float]:
    """Seconds of each plain completion, `_CALLERS` at a time, on the embedded stack."""
    async with AsyncExitStack() as stack:
        with Steps(STEPS) as steps:
            plane = await stack.enter_async_context(running("bench", steps, keep_data=False))
            tenants = await apply_and_key(plane, steps, EXAMPLES)
        acme = await stack.enter_async_context(tenants[0])
        await stack.enter_async_context(tenants[1])
        await _calls(acme, 40)
        shares = await asyncio.gather(*(_calls(acme, _CALLS // _CALLERS) for _ in range(_CALLERS)))
    return [seconds for share in shares for seconds in share]


async def _calls(tenant: Tenant, count: int) -> list[float]:
    measured = []
    for _ in range(count):
        started = time.perf_counter()
        reply = await tenant.ask("Hello.", model="assistant-1", max_tokens=20)
        measured.append(time.perf_counter() - started)
        if not reply.ok:
            raise RuntimeError(f"the data plane answered {reply.status} {reply.code}: {reply.text}")
    return measured


def _dev_ready() -> float:
    """From the command to the line that says Ready."""
    started = time.monotonic()
    with subprocess.Popen([_tool("tenantplane"), "dev"], stdout=subprocess.PIPE, text=True) as dev:
        assert dev.stdout is not None
        try:
            for line in dev.stdout:
                if line.startswith("Ready in"):
                    return time.monotonic() - started
        finally:
            dev.send_signal(signal.SIGTERM)
            dev.communicate()
    raise RuntimeError("tenantplane dev ended before it was ready")


def _p95(name: str, samples: Sequence[float]) -> Figure:
    value = statistics.quantiles(samples, n=20)[-1]
    return Figure(name, round(value, 3), "ms", None, None, tuple(round(s, 2) for s in samples))


def _up(name: str) -> list[str]:
    return [sys.executable, "-m", "tools.up", "--name", name]


def _tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    started = time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started
