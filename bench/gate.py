"""What the whole gate costs a request: beside a bare ASGI proxy, LiteLLM's proxy and Portkey's
gateway, all in front of the same model, each one process on one core, in interleaved rounds.

Full gate: verified token, entitlements, admission over 4 levels, intent commit, call of the model,
outcome commit with event and audit record, settlement. fsync and synchronous_commit are on.
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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import gate_load, gate_plot, gate_steps, open_loop, results
from bench.gate_load import Measured, Plan
from bench.gate_servers import (
    OTHERS,
    Gate,
    Subject,
    bare_proxy,
    gate,
    litellm,
    portkey,
    upstream,
)
from bench.results import Figure, at_least, at_most, plain

ROUNDS: Final = 5
SECONDS: Final = 6.0
# A peer that answers 60 a second needs longer for a p99 that means something.
SLOW_SECONDS: Final = 12.0
_FEW, _MANY = 16, 64
_SCALE_ORGS, _SCALE_USERS = 1000, 10
_LOAD_SHARE: Final = 0.8
_QUANTILES = {50: 50, 95: 95, 99: 99}


@dataclass
class Runs:
    """What was measured, by subject and number of connections, a sample a round."""

    by_name: dict[tuple[str, int], list[Measured]] = field(default_factory=dict)

    def add(self, name: str, connections: int, measured: Measured) -> None:
        wrong = {s: n for s, n in measured.statuses.items() if s != 200}
        if wrong or measured.broken or not measured.latencies_ms:
            raise RuntimeError(f"{name}: answers {wrong}, {measured.broken} broken")
        self.by_name.setdefault((name, connections), []).append(measured)

    def per_second(self, name: str, connections: int) -> list[float]:
        return [measured.per_second for measured in self.by_name[name, connections]]

    def latency(self, name: str, connections: int, percent: int) -> list[float]:
        return [percentile(m.latencies_ms, percent) for m in self.by_name[name, connections]]


def percentile(samples: Sequence[float], percent: int) -> float:
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]


def run(*, cold: bool, rounds: int = ROUNDS, seconds: float = SECONDS, peers: bool = True) -> None:
    """Runs the suite; about 10 minutes with the peers' installation. Nothing here is cold."""
    del cold
    os.sched_setaffinity(0, {int(OTHERS)})  # what measures shares no core with what is measured
    asyncio.run(_run(rounds, seconds, with_peers=peers))


async def _run(rounds: int, seconds: float, *, with_peers: bool) -> None:
    figures: list[Figure] = []
    with ExitStack() as servers:
        model = servers.enter_context(upstream())
        subjects = {"upstream": model, "bare_proxy": servers.enter_context(bare_proxy(model))}
        if with_peers:
            subjects["litellm"] = servers.enter_context(litellm(model))
            subjects["portkey"] = servers.enter_context(portkey(model))
        async with gate(model, {}) as made:
            subjects["gate"] = await made.subject("gate", 10, 4)
            measuring = _Measuring(subjects, seconds)
            figures += await _closed(measuring, rounds, with_peers=with_peers)
            figures += await _streams(measuring, rounds)
            figures += await _open(measuring, made, rounds)
        figures += await _steps(model, seconds)
    results.write(
        "gate", figures, ("uvicorn", "uvloop", "httptools", "aiohttp", "psycopg", "redis")
    )
    if with_peers:
        print(f"drawn to {gate_plot.draw().relative_to(Path.cwd())}")


@dataclass
class _Measuring:
    subjects: Mapping[str, Subject]
    seconds: float
    runs: Runs = field(default_factory=Runs)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)

    async def closed(self, name: str, connections: int, *, stream: bool = False) -> Measured:
        subject = self.subjects[name]
        seconds = max(self.seconds, SLOW_SECONDS) if name == "litellm" else self.seconds
        plan = Plan(subject.port, subject.requests(_chat(stream=stream)), connections, seconds)
        before = subject.cpu_seconds()
        # In a thread: the scripted control plane of the gate answers in this process meanwhile.
        measured = await asyncio.to_thread(gate_load.measure, plan, cores=OTHERS)
        used = subject.cpu_seconds() - before
        # The warm-up is in both: requests are scaled to the time that the CPU was counted in.
        whole = measured.per_second * (plan.seconds + plan.warm_seconds)
        self.cpu_us.setdefault(f"{name}{'_stream' if stream else ''}_{connections}", []).append(
            used / whole * 1e6
        )
        return measured

    async def open_loop(self, name: str, per_second: float) -> list[float]:
        subject = self.subjects[name]
        requests = subject.requests(_chat())
        shown = requests[:: max(1, len(requests) // 64)]
        streams = tuple(
            open_loop.Stream(
                str(number),
                subject.port,
                request,
                per_second / len(shown),
                max(2, 512 // len(shown)),
                first_at_seconds=number / per_second,
            )
            for number, request in enumerate(shown)
        )
        plan = open_loop.Plan(self.seconds, streams)
        measured = await asyncio.to_thread(_open_loop, plan)
        wrong = {s for one in measured.values() for s in one["statuses"]} - {"200"}
        if wrong or sum(one["broken"] + one["unsent"] for one in measured.values()):
            raise RuntimeError(f"{name}: answers {wrong} at a constant rate, or none")
        return [ms for one in measured.values() for ms in one["latencies_ms"]]


async def _closed(measuring: _Measuring, rounds: int, *, with_peers: bool) -> list[Figure]:
    """Requests a second and latency at full speed."""
    runs = measuring.runs
    pairs = [(name, _FEW) for name in measuring.subjects]
    pairs += [(name, _MANY) for name in ("bare_proxy", "gate")]
    for name, connections in pairs:  # connections, prepared statements, verified tokens
        await measuring.closed(name, connections)
    measuring.cpu_us.clear()
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for name, connections in pairs:
            runs.add(name, connections, await measuring.closed(name, connections))
    figures = [
        at_least("gate.vs_bare_proxy", _ratios(runs, "gate", "bare_proxy", _FEW), "x", 0.35),
        at_least("gate.vs_bare_proxy_64", _ratios(runs, "gate", "bare_proxy", _MANY), "x", 0.60),
    ]
    if with_peers:
        figures += _figures_of_peers(runs)
    for name, connections in pairs:
        label = f"gate.{name}" if connections == _FEW else f"gate.{name}_{connections}"
        figures.append(plain(f"{label}_rps", runs.per_second(name, connections), "/s"))
        figures += [
            plain(f"{label}_p{percent}_ms", runs.latency(name, connections, percent), "ms")
            for percent in _QUANTILES
        ]
    figures += [
        plain(f"gate.cpu_us_{name}", samples, "us") for name, samples in measuring.cpu_us.items()
    ]
    return figures


def _figures_of_peers(runs: Runs) -> list[Figure]:
    direct = runs.latency("upstream", _FEW, 99)
    added = {
        name: [p99 - base for p99, base in zip(runs.latency(name, _FEW, 99), direct, strict=True)]
        for name in ("gate", "litellm")
    }
    share = [ours / theirs for ours, theirs in zip(added["gate"], added["litellm"], strict=True)]
    return [
        at_least("gate.vs_litellm_rps", _ratios(runs, "gate", "litellm", _FEW), "x", 30),
        at_most("gate.added_p99_vs_litellm", share, "x", 1 / 30),
        at_least("gate.vs_portkey_rps", _ratios(runs, "gate", "portkey", _FEW), "x", 2.5),
    ]


async def _streams(measuring: _Measuring, rounds: int) -> list[Figure]:
    """Milliseconds until the first token, added to what the model itself takes."""
    added = []
    for _ in range(rounds):
        first = {}
        for name in ("upstream", "gate"):
            measured = await measuring.closed(name, 4, stream=True)
            first[name] = statistics.median(measured.first_ms)
        added.append(first["gate"] - first["upstream"])
    return [at_most("gate.ttft_added_ms", added, "ms", 5)]


async def _open(measuring: _Measuring, made: Gate, rounds: int) -> list[Figure]:
    """Latency at four fifths of the load that it can carry, and the same with many tenants."""
    rate = _LOAD_SHARE * statistics.median(measuring.runs.per_second("gate", _FEW))
    many = await made.subject("scale", _SCALE_ORGS, _SCALE_USERS)
    measuring.subjects = {**measuring.subjects, "scale": many}
    for _ in range(2):  # each token is verified once
        await measuring.closed("scale", _MANY)
    added, ratios, per_second = [], [], []
    for _ in range(rounds):
        p95 = {}
        for name in ("upstream", "gate", "scale"):
            p95[name] = percentile(await measuring.open_loop(name, rate), 95)
        added.append(p95["gate"] - p95["upstream"])
        ratios.append(p95["scale"] / p95["gate"])
        few, all_of_them = [await measuring.closed(name, _FEW) for name in ("gate", "scale")]
        per_second.append(all_of_them.per_second / few.per_second)
    return [
        at_most("gate.added_p95_ms", added, "ms", 10),
        at_most("gate.scale_p95_ratio", ratios, "x", 1.1),
        at_least("gate.scale_rps_ratio", per_second, "x", 0.9),
        plain("gate.open_loop_rate", [rate], "/s"),
    ]


async def _steps(model: Subject, seconds: float) -> list[Figure]:
    """CPU of a request by step, from samples; a plane of its own, since sampling costs a little."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "steps")
        environment = {"BENCH_MODULE": "bench.gate_steps", "BENCH_STEPS": str(path)}
        async with gate(model, environment) as made:
            subjects = {"sampled": await made.subject("steps", 10, 4)}
            measuring = _Measuring(subjects, seconds)
            await measuring.closed("sampled", _FEW)
            measuring.cpu_us.clear()
            os.kill(made.process.pid, signal.SIGUSR1)
            await measuring.closed("sampled", _FEW)
            os.kill(made.process.pid, signal.SIGUSR2)
            async with asyncio.timeout(30):
                while not await asyncio.to_thread(path.exists):  # noqa: ASYNC110 (another process)
                    await asyncio.sleep(0.05)
        (total,) = measuring.cpu_us[f"sampled_{_FEW}"]
        return [
            plain(f"gate.cpu_us_step_{step}", [share * total], "us")
            for step, share in gate_steps.shares(path).items()
        ]


def _ratios(runs: Runs, ours: str, theirs: str, connections: int) -> list[float]:
    pairs = zip(
        runs.per_second(ours, connections), runs.per_second(theirs, connections), strict=True
    )
    return [one / other for one, other in pairs]


def _open_loop(plan: open_loop.Plan) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        ["taskset", "-c", OTHERS, sys.executable, "-m", "bench.open_loop"],
        input=open_loop.encoded(plan) + "\ngo\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _chat(*, stream: bool = False) -> str:
    body = {
        "model": "assistant-1",
        "messages": [{"role": "user", "content": "Hello, what can you do for me today?"}],
        "max_tokens": 64,
        "stream": stream,
    }
    return json.dumps(body, separators=(",", ":"))
