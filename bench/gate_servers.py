"""The servers of the gate bench: the gate with its stores, the bare proxy, the peers, the model.

What is measured has core MEASURED to itself; stores, model and load share core OTHERS, which they
inherit from the bench's own process.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from bench import peers
from tenantplane.core.apis.snapshot import Level, LevelLimits, Snapshot
from tenantplane.core.db.bootstrap import RolePasswords
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.provision import ContextKey, provision
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tests.fixtures.dataplane import MIGRATIONS, database_environment
from tests.fixtures.models import serving
from tests.fixtures.scripted_control_plane import (
    ScriptedControlPlane,
    ScriptedPlane,
    _application,
    tenant_fields,
)

MEASURED: Final = "0"
OTHERS: Final = "1"
LITELLM: Final = "litellm[proxy]==1.106.2"
PORTKEY: Final = "@portkey-ai/gateway@1.15.2"
_MASTER_KEY: Final = "sk-bench-of-loopback"
# LiteLLM imports for half a minute on an idle core.
_START_SECONDS: Final = 300.0
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_ROOM: Final = 8_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Subject:
    """A server under load: where it listens, and how its requests look."""

    name: str
    port: int
    pid: int
    headers: Mapping[str, str] = field(default_factory=dict)
    tokens: Sequence[str] = ()  # one bearer token a caller, in turn

    def requests(self, body: str) -> tuple[str, ...]:
        """Whole HTTP/1.1 requests, one for each caller."""
        return tuple(self._request(body, token) for token in self.tokens or ("none",))

    def cpu_seconds(self) -> float:
        # Fields 14 and 15 of /proc/<pid>/stat (proc(5)): user and system time in ticks.
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / _TICKS_PER_SECOND

    def _request(self, body: str, token: str) -> str:
        headers = {
            "host": f"127.0.0.1:{self.port}",
            "authorization": f"Bearer {token}",
            "content-type": "application/json",
            "content-length": str(len(body.encode())),
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n{body}"


@contextmanager
def upstream() -> Iterator[Subject]:
    """The model, by itself."""
    with _running(OTHERS, [sys.executable, "-m", "bench.gate_upstream"], {}) as process:
        assert process.stdout is not None
        yield Subject("upstream", int(process.stdout.readline()), process.pid)


@contextmanager
def bare_proxy(model: Subject) -> Iterator[Subject]:
    port = free_port()
    command = [sys.executable, "-m", "bench.gate_proxy", "--port", str(port)]
    command += ["--upstream", f"http://127.0.0.1:{model.port}"]
    with _running(MEASURED, command, {}) as process:
        _await_answer(f"http://127.0.0.1:{port}/", process)
        yield Subject("bare_proxy", port, process.pid)


@contextmanager
def litellm(model: Subject) -> Iterator[Subject]:
    """LiteLLM's proxy without a database, its price map its own."""
    port = free_port()
    parameters = {
        "model": "openai/assistant-1",
        "api_base": f"http://127.0.0.1:{model.port}/v1",
        "api_key": "none",
    }
    config = {"model_list": [{"model_name": "assistant-1", "litellm_params": parameters}]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(json.dumps(config))  # JSON is YAML
        command = [str(peers.python_environment(LITELLM) / "litellm"), "--config", str(path)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        environment = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": _MASTER_KEY,
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
        }
        with _running(MEASURED, command, environment) as process:
            _await_answer(f"http://127.0.0.1:{port}/health/liveliness", process)
            yield Subject("litellm", port, process.pid, tokens=(_MASTER_KEY,))


@contextmanager
def portkey(model: Subject) -> Iterator[Subject]:
    """Portkey's gateway, passing through to the model."""
    port = free_port()
    script = peers.node_package(PORTKEY) / "build" / "start-server.js"
    command = ["node", str(script), f"--port={port}", "--headless"]
    with _running(MEASURED, command, {"NODE_ENV": "production"}) as process:
        _await_answer(f"http://127.0.0.1:{port}/", process)
        headers = {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{model.port}/v1",
        }
        yield Subject("portkey", port, process.pid, headers)


@dataclass
class Gate:
    """One data plane with stores of its own, and tenants as many as a bench wants."""

    control: ScriptedControlPlane
    plane: ScriptedPlane
    port: int
    process: asyncio.subprocess.Process

    async def subject(self, name: str, orgs: int, users_an_org: int) -> Subject:
        """Callers of so many orgs, each below a division and an umbrella: four levels with the
        user's. Their tokens are verified ones."""
        tokens = []
        for number in range(orgs):
            org = f"{name}-{number}"
            await self.control.put(_snapshot(self.plane.name, org, f"{name}-u{number // 10}"))
            tokens += [self.control.mint(org, sub=f"user-{n}") for n in range(users_an_org)]
        await self._applied()
        return Subject(name, self.port, self.process.pid, tokens=tuple(tokens))

    async def _applied(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            # By another process: there is nothing to wait for but its word.
            while max(self.plane.acknowledged.values(), default=0) < len(self.plane.log):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@asynccontextmanager
async def gate(model: Subject, environment: Mapping[str, str]) -> AsyncIterator[Gate]:
    """`tenantplane-dataplane serve` as it is, in one process on one core; fsync on."""
    async with AsyncExitStack() as opened:
        folders = [Path(tempfile.mkdtemp(prefix=f"tp-bench-{n}-")) for n in ("pg", "vk")]
        for folder in folders:
            opened.callback(shutil.rmtree, folder)
        postgres = EmbeddedPostgres.start(folders[0])
        opened.callback(postgres.stop, immediate=True)
        valkey = EmbeddedValkey.start(folders[1])
        opened.callback(valkey.stop)
        key = ContextKey("k1", secrets.token_bytes(32))
        provisioned = await provision(
            postgres.admin_dsn(), "data", MIGRATIONS, RolePasswords.generate(), key
        )
        control = ScriptedControlPlane("")
        served = _application(control)
        # Unheard, the plane would examine its database again every few seconds, all through the run.
        served.put("/v1/planes/self/isolation")(_heard)
        control.url = await opened.enter_async_context(serving(served))
        plane = control.plane("bench")
        opened.push_async_callback(plane.leave)
        port = free_port()
        settings = {
            **database_environment(provisioned),
            "TENANTPLANE_VALKEY__URL": valkey.url,
            "TENANTPLANE_MASTER_KEY": secrets.token_hex(32),
            "TENANTPLANE_CONTROL_PLANE_URL": control.url,
            "TENANTPLANE_PLANE": plane.name,
            "TENANTPLANE_ENROLMENT_TOKEN": plane.enrolment_token,
            "TENANTPLANE_PROVIDERS": json.dumps(
                {"default": {"base_url": f"http://127.0.0.1:{model.port}/v1"}}
            ),
            **environment,
        }
        module = settings.pop("BENCH_MODULE", "tenantplane.dataplane.main")
        process = await asyncio.create_subprocess_exec(
            *("taskset", "-c", MEASURED, sys.executable, "-m", module),
            *("serve", "--port", str(port)),
            env={**os.environ, **settings},
            stderr=asyncio.subprocess.DEVNULL,
        )
        opened.push_async_callback(_ended, process)
        await _ready(port, process)
        yield Gate(control, plane, port, process)


async def _heard() -> dict[str, str]:
    return {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _snapshot(plane: str, org: str, umbrella: str) -> Snapshot:
    levels = tuple(
        Level(
            kind="org",
            id=name,
            requests_per_minute=10_000_000,
            tokens_per_minute=10_000_000_000,
            soft_cap_nanousd=_ROOM,
            hard_cap_nanousd=_ROOM,
        )
        for name in (umbrella, f"{umbrella}-d", org)
    )
    per_user = LevelLimits(requests_per_minute=10_000_000, hard_cap_nanousd=_ROOM)
    fields = tenant_fields(plane, org)
    changed = {"root_org_id": umbrella, "levels": levels, "per_user": per_user}
    return Snapshot.model_validate(fields | changed)


async def _ready(port: int, process: asyncio.subprocess.Process) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not await asyncio.to_thread(_answers, f"http://127.0.0.1:{port}/readyz"):
        if process.returncode is not None or time.monotonic() > deadline:
            raise RuntimeError("the data plane did not become ready")
        await asyncio.sleep(0.05)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    await process.wait()


@contextmanager
def _running(
    core: str, command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    with ExitStack() as opened:
        process = opened.enter_context(
            subprocess.Popen(
                ["taskset", "-c", core, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **environment},
            )
        )
        opened.callback(process.terminate)
        yield process


def _await_answer(url: str, process: subprocess.Popen[str]) -> None:
    """Until it answers anything at all."""
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(url, any_status=True):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no answer from {url}")
        time.sleep(0.1)


def _answers(url: str, *, any_status: bool = False) -> bool:
    from urllib.error import HTTPError  # noqa: PLC0415

    try:
        urlopen(url, timeout=5).close()
    except HTTPError:
        return any_status
    except OSError:
        return False
    return True
