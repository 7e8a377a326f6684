"""Noisy neighbours: what one tenant far over its quota does to the others' latency (R7).

The stack as `tenantplane dev` starts it, a model that takes 50 ms, ten quiet tenants at a constant
rate, and one noisy tenant. Quiet and noisy phases take turns, so that whatever else the machine
does meets both alike. Every generator is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from bench import results
from bench.open_loop import Plan, Stream, encoded
from bench.results import Figure
from tenantplane.cli import apply as applying
from tenantplane.cli.local.stack import STEPS, Stack, running
from tenantplane.cli.output import Steps
from tenantplane.core.apis.registry import ApiKeyRequest

QUIET_TENANTS = 10
QUIET_RATE_PER_SECOND = 5.0  # of each
NOISY_QUOTA_PER_MINUTE = 600
NOISY_RATE_PER_SECOND = 100 * NOISY_QUOTA_PER_MINUTE / 60
NOISY_CONNECTIONS = 256
MODEL_LATENCY_MS = 50
MODEL_TOKENS_PER_SECOND = 50
PROBE_RATE_PER_SECOND = 20.0
ROUNDS = 5
ROUNDS_OF_OTHER_NOISE = 2
PHASE_SECONDS = 12.0
_GOAL = 1.5
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_NOISY, _PROBE = "noisy", "probe"
_MODEL = "assistant-1"


@dataclass(frozen=True, slots=True)
class Noise:
    """What the noisy tenant sends: a body, so often a second, over so many connections."""

    name: str
    body: str
    rate_per_second: float
    connections: int
    slow_read_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Phase:
    """What was measured in one phase. `cpu_share` is the data plane's, of one core."""

    quiet_ms: Sequence[float]
    quiet_statuses: Counter[str]
    probe_ms: Sequence[float]
    cpu_share: float
    lasted_seconds: float
    noisy: dict[str, Any] = field(default_factory=dict)

    @property
    def p99_ms(self) -> float:
        return percentile(self.quiet_ms, 99)


def percentile(samples: Sequence[float], percent: int) -> float:
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]


def run(*, cold: bool, rounds: int = ROUNDS, seconds: float = PHASE_SECONDS) -> None:
    """Runs the suite; about 4 minutes. Nothing here is cold or warm."""
    del cold
    asyncio.run(_run(rounds, seconds))


async def _run(rounds: int, seconds: float) -> None:
    flood = Noise("flood", _chat("[[tokens:1]]"), NOISY_RATE_PER_SECOND, NOISY_CONNECTIONS)
    figures: list[Figure] = []
    async with _stack() as (stack, keys):
        bench = _Bench(stack, keys, seconds)
        await bench.phase(None)  # connections, prepared statements, data keys
        print("flood", flush=True)
        figures += _figures_of_flood(await bench.rounds(flood, rounds))
        for noise in _other_noise():
            print(noise.name, flush=True)
            other = await bench.rounds(noise, min(rounds, ROUNDS_OF_OTHER_NOISE))
            ratios = [noisy.p99_ms / quiet.p99_ms for quiet, noisy in other]
            figures.append(results.plain(f"noise.{noise.name}_p99_ratio", ratios, "x"))
            print(_outcomes(other), flush=True)
    results.write("noise", figures, ("uvicorn", "httptools", "psycopg", "redis"))


def _other_noise() -> tuple[Noise, ...]:
    """Within the quota, and a burden all the same."""
    megabyte = 1024 * 1024
    # Many small values instead of one long text: what a parser finds hardest.
    odd = json.loads(_chat("[[tokens:1]]")) | {
        "response_format": {"numbers": [0] * (2 * megabyte - 1000)}
    }
    return (
        Noise("streams", _chat("[[tokens:400]]", stream=True), 10.0, 24),
        Noise("long_bodies", _chat("[[tokens:1]]" + "x " * (megabyte // 2)), 5.0, 16),
        Noise("odd_bodies", json.dumps(odd, separators=(",", ":")), 1.0, 8),
        Noise("slow_reads", _chat("[[tokens:2000]]", stream=True), 10.0, 24, slow_read_seconds=6),
    )


def _figures_of_flood(rounds: Sequence[tuple[Phase, Phase]]) -> list[Figure]:
    quiet, noisy = [pair[0] for pair in rounds], [pair[1] for pair in rounds]
    ratios = [after.p99_ms / before.p99_ms for before, after in rounds]
    sent = sum(sum(phase.noisy["statuses"].values()) for phase in noisy)
    statuses = sum((Counter(phase.noisy["statuses"]) for phase in noisy), Counter[str]())
    print(_outcomes(rounds), flush=True)
    # The median of the rounds' ratios would hide a burst that only one round sees: of each side the
    # median, and each round beside it.
    value = statistics.median(p.p99_ms for p in noisy) / statistics.median(p.p99_ms for p in quiet)
    ratio = Figure(
        "noise.p99_ratio", round(value, 3), "x", f"<= {_GOAL}", value <= _GOAL, tuple(ratios)
    )
    pooled = [
        percentile([ms for phase in phases for ms in phase.quiet_ms], 99)
        for phases in (quiet, noisy)
    ]
    plain: dict[str, tuple[Sequence[float], str]] = {
        "noise.pooled_p99_ratio": ([pooled[1] / pooled[0]], "x"),
        "noise.quiet_p99_ms": ([p.p99_ms for p in quiet], "ms"),
        "noise.noisy_p99_ms": ([p.p99_ms for p in noisy], "ms"),
        "noise.quiet_p50_ms": ([percentile(p.quiet_ms, 50) for p in quiet], "ms"),
        "noise.noisy_p50_ms": ([percentile(p.quiet_ms, 50) for p in noisy], "ms"),
        "noise.quiet_probe_p99_ms": ([percentile(p.probe_ms, 99) for p in quiet], "ms"),
        "noise.noisy_probe_p99_ms": ([percentile(p.probe_ms, 99) for p in noisy], "ms"),
        "noise.quiet_cpu_share": ([p.cpu_share for p in quiet], "core"),
        "noise.noisy_cpu_share": ([p.cpu_share for p in noisy], "core"),
        "noise.noisy_answered_per_s": ([sent / sum(p.lasted_seconds for p in noisy)], "/s"),
        "noise.noisy_admitted": ([statuses["200"]], ""),
        "noise.noisy_refused_429": ([statuses["429"]], ""),
        "noise.noisy_other_answers": ([sent - statuses["200"] - statuses["429"]], ""),
        "noise.noisy_unsent": ([sum(p.noisy["unsent"] for p in noisy)], ""),
        "noise.noisy_retry_after": ([sum(p.noisy["with_retry_after"] for p in noisy)], ""),
        "noise.quiet_failures": ([_failures([*quiet, *noisy])], ""),
    }
    return [ratio, *(results.plain(name, *of) for name, of in plain.items())]


def _failures(phases: Sequence[Phase]) -> int:
    """Answers to the quiet tenants that were none."""
    return sum(phase.quiet_statuses.total() - phase.quiet_statuses["200"] for phase in phases)


def _outcomes(rounds: Sequence[tuple[Phase, Phase]]) -> str:
    return "\n".join(
        f"  quiet p99 {quiet.p99_ms:7.1f} → {noisy.p99_ms:7.1f} ms, probe "
        f"{percentile(quiet.probe_ms, 99):6.1f} → {percentile(noisy.probe_ms, 99):6.1f} ms, cpu "
        f"{quiet.cpu_share:.2f} → {noisy.cpu_share:.2f}, quiet {dict(noisy.quiet_statuses)}, noisy "
        f"{noisy.noisy['statuses']} unsent {noisy.noisy['unsent']} broken {noisy.noisy['broken']}"
        for quiet, noisy in rounds
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    stack: Stack
    keys: dict[str, str]
    seconds: float

    async def rounds(self, noise: Noise, count: int) -> list[tuple[Phase, Phase]]:
        return [(await self.phase(None), await self.phase(noise)) for _ in range(count)]

    async def phase(self, noise: Noise | None) -> Phase:
        plans = {"quiet": Plan(self.seconds, self._quiet())}
        if noise is not None:
            plans[_NOISY] = Plan(self.seconds, (self._noisy(noise),))
        generators = {name: await _Generator.start(plan) for name, plan in plans.items()}
        before, began = self._cpu_seconds(), time.monotonic()
        for generator in generators.values():
            generator.go()
        measured = {name: await g.result() for name, g in generators.items()}
        used, lasted = self._cpu_seconds() - before, time.monotonic() - began
        quiet = measured["quiet"]
        probe = quiet.pop(_PROBE)
        return Phase(
            [ms for one in quiet.values() for ms in one["latencies_ms"]],
            sum((_answers(one) for one in quiet.values()), Counter[str]()),
            probe["latencies_ms"],
            used / lasted,
            lasted,
            measured.get(_NOISY, {}).get(_NOISY, {}),
        )

    def _quiet(self) -> tuple[Stream, ...]:
        step = 1 / QUIET_RATE_PER_SECOND / QUIET_TENANTS
        names = [name for name in self.keys if name != _NOISY]
        chats = tuple(
            Stream(
                name,
                self._port,
                self._post(self.keys[name], _chat("[[tokens:1]]")),
                QUIET_RATE_PER_SECOND,
                32,
                first_at_seconds=place * step,
            )
            for place, name in enumerate(names)
        )
        probe = f"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n\r\n"
        return (*chats, Stream(_PROBE, self._port, probe, PROBE_RATE_PER_SECOND, 8))

    def _noisy(self, noise: Noise) -> Stream:
        request = self._post(self.keys[_NOISY], noise.body)
        return Stream(
            _NOISY,
            self._port,
            request,
            noise.rate_per_second,
            noise.connections,
            slow_read_seconds=noise.slow_read_seconds,
        )

    def _post(self, key: str, body: str) -> str:
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n"
            f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body.encode())}\r\n\r\n{body}"
        )

    @property
    def _port(self) -> int:
        return int(self.stack.data_plane_url.rpartition(":")[2])

    def _cpu_seconds(self) -> float:
        record = json.loads((self.stack.folder / "processes.json").read_text())
        # Fields 14 and 15 of /proc/<pid>/stat (proc(5)): user and system time in ticks.
        stat = Path(f"/proc/{record['dataplane'][0]}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / _TICKS_PER_SECOND


@dataclass(frozen=True, slots=True)
class _Generator:
    process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, plan: Plan) -> _Generator:
        """Ready to send: what its start costs is over."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.open_loop",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=64 * 1024 * 1024,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(encoded(plan).encode() + b"\n")
        if await process.stdout.readline() != b"ready\n":
            raise RuntimeError("a load generator did not start")
        return cls(process)

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")

    async def result(self) -> dict[str, dict[str, Any]]:
        said, _ = await self.process.communicate()
        measured: dict[str, dict[str, Any]] = json.loads(said)
        return measured


def _answers(one: dict[str, Any]) -> Counter[str]:
    lost = Counter({"unsent": one["unsent"], "broken": one["broken"]})
    return Counter(one["statuses"]) + lost


def _chat(message: str, *, stream: bool = False) -> str:
    body = {
        "model": _MODEL,
        "messages": [{"role": "user", "content": message}],
        "max_tokens": 2000,
        "stream": stream,
    }
    return json.dumps(body, separators=(",", ":"))


@asynccontextmanager
async def _stack() -> AsyncIterator[tuple[Stack, dict[str, str]]]:
    """The embedded stack with its tenants, and an API key of each by name."""
    names = [f"quiet-{n:02}" for n in range(QUIET_TENANTS)] + [_NOISY]
    with _slow_model(), Steps(STEPS) as steps:
        async with running("noise", steps, keep_data=False) as stack:
            with _written(_manifests(names)) as folder:
                async with stack.context.registry() as registry:
                    await applying.apply(registry, folder, take_over=False, wait_seconds=15)
                    request = ApiKeyRequest(name="bench", user_id="bench")
                    made = {n: await registry.create_key(n, request) for n in names}
                    await applying.wait_applied(registry, names, 15)
            yield stack, {name: key.secret for name, key in made.items()}


@contextmanager
def _written(manifests: Sequence[dict[str, Any]]) -> Iterator[Path]:
    """A folder with the manifests, for as long as they are read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "noise.yaml").write_text(yaml.safe_dump_all(manifests))
        yield Path(folder)


@contextmanager
def _slow_model() -> Iterator[None]:
    """A model that takes its time, given to the stack as any provider is: by OpenAI's variables."""
    command = [
        *(sys.executable, "-m", "tenantplane.dataplane.models.scripted"),
        *("--latency-ms", str(MODEL_LATENCY_MS)),
        *("--tokens-per-second", str(MODEL_TOKENS_PER_SECOND)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as model:
        assert model.stdout is not None
        variables = {
            "OPENAI_API_KEY": "none-is-needed",
            "OPENAI_BASE_URL": model.stdout.readline().strip(),
        }
        try:
            with mock.patch.dict(os.environ, variables):
                yield
        finally:
            model.terminate()


def _manifests(names: Sequence[str]) -> list[dict[str, Any]]:
    def plan(name: str, requests_per_minute: int) -> dict[str, Any]:
        return _manifest(
            "Plan",
            name,
            {
                "displayName": name,
                "entitlements": {"tools": [], "models": [_MODEL]},
                "limits": {
                    "requestsPerMinute": requests_per_minute,
                    "tokensPerMinute": 1_000_000_000,
                    "softCapUSD": "90000",
                    "hardCapUSD": "100000",
                },
                "prices": {
                    "models": [
                        {
                            "name": _MODEL,
                            "inputUSDPerMillionTokens": "0.15",
                            "outputUSDPerMillionTokens": "0.60",
                            "maxOutputTokens": 32768,
                        }
                    ]
                },
            },
        )

    tenants = [
        _manifest(
            "Tenant",
            name,
            {"displayName": name, "plan": "noisy-plan" if name == _NOISY else "quiet-plan"},
        )
        for name in names
    ]
    return [plan("quiet-plan", 1_000_000), plan("noisy-plan", NOISY_QUOTA_PER_MINUTE), *tenants]


def _manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "tenantplane.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
