"""The embedded default: Postgres, Valkey, a model, the control plane and a shared data plane."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from pydantic import SecretStr

from tenantplane.cli.context import Context
from tenantplane.cli.local.process import Processes
from tenantplane.cli.local.providers import ProviderChoice, choose
from tenantplane.cli.local.secrets import RoleSecrets, StackSecrets
from tenantplane.cli.output import Steps
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.errors import ConfigurationRefused, DependencyUnavailable
from tenantplane.core.valkey.embedded import EmbeddedValkey

STEPS = 5
_READY_SECONDS = 60.0
_PLANE = "shared-1"
_REGION = "local"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack."""

    folder: Path
    control_plane_url: str
    data_plane_url: str
    platform_key: SecretStr
    provider: ProviderChoice
    processes: Processes

    @property
    def context(self) -> Context:
        return Context(control_plane_url=self.control_plane_url, platform_key=self.platform_key)


def state_folder(name: str) -> Path:
    """Where a local stack keeps its data.

    Root's stack lives outside anybody's home: Postgres runs as a user of its own then, and homes
    stay closed to it.
    """
    named = os.environ.get("TENANTPLANE_STATE")
    if named:
        return Path(named) / name
    if os.geteuid() == 0:
        return Path("/var/lib/tenantplane") / name
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "tenantplane" / name


@asynccontextmanager
async def running(
    name: str, steps: Steps, *, keep_data: bool, port: int | None = None
) -> AsyncIterator[Stack]:
    """Starts what is needed and ends it afterwards. Raises leaves of core/errors.py."""
    folder = state_folder(name)
    processes = Processes(folder)
    processes.end_left_over()
    if not keep_data:
        _stop_stores(folder)
        shutil.rmtree(folder)
        processes = Processes(folder)
    secrets = StackSecrets.of(folder / "secrets.json")
    ports = _Ports.choose(port)
    try:
        with steps.step("Postgres with pgvector, and Valkey"):
            postgres, valkey = await asyncio.gather(
                asyncio.to_thread(EmbeddedPostgres.start, folder / "postgres"),
                asyncio.to_thread(EmbeddedValkey.start, folder / "valkey"),
            )
        environment = _Environments(secrets, ports, postgres, valkey.url)
        with steps.step("databases, roles and migrations"):
            await asyncio.gather(
                _run("controlplane", environment.control_bootstrap()),
                _run("dataplane", environment.data_bootstrap()),
            )
        provider = choose(f"http://127.0.0.1:{ports.model}/v1")
        with steps.step(f"control plane, data plane, {provider.label}"):
            if provider.scripted:
                command = (
                    "-m",
                    "tenantplane.dataplane.models.scripted",
                    "--port",
                    str(ports.model),
                )
                processes.start("model", (sys.executable, *command), {})
            _serve(processes, "controlplane", ports.control, environment.control())
            await _ready(processes, ports.control)
            _serve(processes, "dataplane", ports.data, environment.data(provider))
            await _ready(processes, ports.data)
        yield Stack(
            folder,
            f"http://127.0.0.1:{ports.control}",
            f"http://127.0.0.1:{ports.data}",
            SecretStr(secrets.platform_key),
            provider,
            processes,
        )
    finally:
        processes.stop()
        _stop_stores(folder)


@dataclass(frozen=True, slots=True)
class _Ports:
    data: int
    control: int
    model: int

    @classmethod
    def choose(cls, wanted: int | None) -> _Ports:
        """`wanted` and the two after it where they are free, else any that are."""
        with socket.socket() as a, socket.socket() as b, socket.socket() as c:
            numbers = []
            for offset, probe in enumerate((a, b, c)):
                try:
                    probe.bind(("127.0.0.1", wanted + offset if wanted else 0))
                except OSError:
                    probe.bind(("127.0.0.1", 0))
                numbers.append(probe.getsockname()[1])
        return cls(*numbers)


@dataclass(frozen=True, slots=True)
class _Environments:
    """The environment of each process: it gets its own secrets and no others."""

    secrets: StackSecrets
    ports: _Ports
    postgres: EmbeddedPostgres
    valkey_url: str

    def control_bootstrap(self) -> dict[str, str]:
        return self._bootstrap(self.secrets.control) | self.control()

    def data_bootstrap(self) -> dict[str, str]:
        return self._bootstrap(self.secrets.data) | self._database("data", self.secrets.data)

    def control(self) -> dict[str, str]:
        plane = {
            "name": _PLANE,
            "region": _REGION,
            "endpoint": f"http://127.0.0.1:{self.ports.data}",
            "enrolment_token": self.secrets.enrolment_token,
        }
        return self._database("control", self.secrets.control) | {
            "TENANTPLANE_ISSUER": f"http://127.0.0.1:{self.ports.control}",
            "TENANTPLANE_MASTER_KEY": self.secrets.control_master_key,
            "TENANTPLANE_BOOTSTRAP_PLATFORM_KEY": self.secrets.platform_key,
            "TENANTPLANE_BOOTSTRAP_PLANES": json.dumps([plane]),
        }

    def data(self, provider: ProviderChoice) -> dict[str, str]:
        return self._database("data", self.secrets.data) | {
            "TENANTPLANE_VALKEY__URL": self.valkey_url,
            "TENANTPLANE_MASTER_KEY": self.secrets.data_master_key,
            "TENANTPLANE_CONTROL_PLANE_URL": f"http://127.0.0.1:{self.ports.control}",
            "TENANTPLANE_PLANE": _PLANE,
            "TENANTPLANE_ENROLMENT_TOKEN": self.secrets.enrolment_token,
            "TENANTPLANE_PROVIDERS": provider.settings,
        }

    def _bootstrap(self, roles: RoleSecrets) -> dict[str, str]:
        return {
            "TENANTPLANE_ADMIN_DSN": self.postgres.admin_dsn(),
            "TENANTPLANE_ROLE_PASSWORDS__OWNER": roles.owner,
            "TENANTPLANE_ROLE_PASSWORDS__APP": roles.app,
            "TENANTPLANE_ROLE_PASSWORDS__SYSTEM": roles.system,
            "TENANTPLANE_ROLE_PASSWORDS__BACKUP": roles.backup,
        }

    def _database(self, name: str, roles: RoleSecrets) -> dict[str, str]:
        prefix = "TENANTPLANE_DATABASE__"
        return {
            prefix + "APP_DSN": self.postgres.dsn(f"tp_{name}_app", roles.app, name),
            prefix + "SYSTEM_DSN": self.postgres.dsn(f"tp_{name}_system", roles.system, name),
            prefix + "CONTEXT_KEY_ID": "k1",
            prefix + "CONTEXT_KEY": roles.context_key,
        }


def _serve(processes: Processes, component: str, port: int, environment: Mapping[str, str]) -> None:
    command = ("serve", "--host", "127.0.0.1", "--port", str(port))
    module = f"tenantplane.{component}.main"
    processes.start(component, (sys.executable, "-m", module, *command), environment)


async def _run(component: str, environment: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tenantplane.{component}.main",
        "bootstrap",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise ConfigurationRefused(
            f"{component} bootstrap ended with {process.returncode}: {said.decode()[-1000:]}"
        )


async def _ready(processes: Processes, port: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        while True:
            processes.require_running()
            try:
                if (await http.get("/readyz")).is_success:
                    return
            except httpx2.TransportError:
                pass  # it does not listen yet; the deadline bounds this
            if time.monotonic() > deadline:
                raise DependencyUnavailable(f"Nothing is ready on port {port} after 60 s.")
            await asyncio.sleep(0.05)


def _stop_stores(folder: Path) -> None:
    if (folder / "postgres").exists():
        EmbeddedPostgres(folder / "postgres", port=0, password="").stop()
    if (folder / "valkey").exists():
        EmbeddedValkey(folder / "valkey").stop()
