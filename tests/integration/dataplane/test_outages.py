"""Each dependency away, and hanging: which requests are served, what the caller sees and how soon,
and that all is well again without a restart. docs/how-to/outages.md says the same in words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tenantplane.core.db.bootstrap import RolePasswords
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.postgres_cluster import Cluster
from tenantplane.core.db.provision import ContextKey, provision
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tests.fixtures.controlplane import ControlPlaneProcess, StartControlPlane
from tests.fixtures.dataplane import (
    MIGRATIONS,
    DataPlaneProcess,
    Peers,
    database_environment,
    until,
)
from tests.fixtures.models import ScriptedServer

# No answer takes longer, whatever hangs.
BOUND_SECONDS = 20.0
BACK_SECONDS = 30.0


@dataclass
class Provider:
    """The way to the scripted model, which can be cut or left hanging."""

    target: tuple[str, int]
    hanging: bool = False
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the connection was cut: on purpose, or by its other end
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection(*self.target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, before))
                group.create_task(self._copy(behind, writer))
        finally:
            before.close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65_536):
            if self.hanging:
                await asyncio.Event().wait()
            sink.write(chunk)
            await sink.drain()
        sink.write_eof()


@dataclass
class Plane:
    """A data plane with servers of its own, each of which a test may take away."""

    control: ControlPlaneProcess
    data: DataPlaneProcess
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    provider: Provider
    key: str
    org_id: str

    async def asks(self, path: str = "chat") -> tuple[int, str | None, str | None]:
        """Status, error code and Retry-After of one request; fails where it takes too long."""
        began = time.monotonic()
        if path == "chat":
            answer = await self.data.chat(self.key, "hello")
        else:
            answer = await self.data.get(path, self.key)
        took = time.monotonic() - began
        assert took < BOUND_SECONDS, f"{path} answered {answer.status_code} after {took:.1f} s"
        body: Any = answer.json()
        error = body.get("error") or body
        code = error.get("code") if answer.status_code >= 400 else None
        return answer.status_code, code, answer.headers.get("retry-after")

    async def is_refused(self) -> None:
        """Calls are refused soon, with a reason and a time; what needs no dependency is served."""
        status, code, retry_after = await self.asks()
        assert status == 503, (status, code)
        assert code
        assert retry_after is not None
        assert int(retry_after) >= 1

    async def recovers(self) -> None:
        """The same process serves again."""
        assert self.data.process is not None
        pid = self.data.process.pid
        await until(self.asks, lambda answer: answer[0] == 200, BACK_SECONDS)
        assert self.data.process.pid == pid
        await until(self.is_ready, lambda ready: ready[0], BACK_SECONDS)

    async def is_ready(self) -> tuple[bool, dict[str, Any]]:
        answer = await self.data.http.get("/readyz")
        return answer.status_code == 200, answer.json()

    async def spent_nanousd(self) -> int:
        spend = (await self.data.get("/tp/v1/spend", self.key)).json()
        month = next(level for level in spend["levels"] if level["period"] == "month")
        return int(month["settled"]["nanousd"])


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="tenantplane-outage-"))
    server = EmbeddedPostgres.start(folder)
    yield server
    server.stop(immediate=True)
    shutil.rmtree(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plane(
    own_postgres: EmbeddedPostgres,
    make_valkey: Callable[[], EmbeddedValkey],
    start_control_plane: StartControlPlane,
    scripted_model: ScriptedServer,
) -> AsyncIterator[Plane]:
    suffix = secrets.token_hex(4)
    name, region = f"plane-{suffix}", f"region-{suffix}"
    provisioned = await provision(
        own_postgres.admin_dsn(),
        "data",
        MIGRATIONS,
        RolePasswords.generate(),
        ContextKey("k1", secrets.token_bytes(32)),
        dbname=f"data_{suffix}",
        role_prefix=f"tp_data_{suffix}",
    )
    control = await start_control_plane()
    valkey = make_valkey()
    address = urlsplit(scripted_model.base_url)
    assert address.hostname is not None
    assert address.port is not None
    provider = Provider((address.hostname, address.port))
    async with AsyncExitStack() as opened:
        await provider.start()
        opened.push_async_callback(provider.stop)
        data = DataPlaneProcess(
            name,
            provisioned,
            valkey,
            {
                **database_environment(provisioned),
                "TENANTPLANE_VALKEY__URL": valkey.settings.url.get_secret_value(),
                "TENANTPLANE_MASTER_KEY": secrets.token_hex(32),
                "TENANTPLANE_CONTROL_PLANE_URL": control.url,
                "TENANTPLANE_PLANE": name,
                "TENANTPLANE_ENROLMENT_TOKEN": await control.enrolment_token(name, region),
                "TENANTPLANE_PROVIDERS": json.dumps(
                    {
                        "default": {
                            "base_url": f"http://127.0.0.1:{provider.port}/v1",
                            "connect_timeout_seconds": 1,
                            "first_byte_timeout_seconds": 2,
                            "breaker_open_seconds": 1,
                        }
                    }
                ),
                "TENANTPLANE_PEERING__LONGEST_PAUSE_SECONDS": "0.5",
                "TENANTPLANE_PEERING__TIMEOUT_SECONDS": "2",
                "TENANTPLANE_SHIP_SECONDS": "0.1",
            },
            Path(tempfile.mkdtemp(prefix="tenantplane-outage-log-")) / "data.log",
        )
        opened.push_async_callback(data.close)
        await data.start()
        org_id, key = await Peers(control, data, region).tenant()
        made = Plane(control, data, own_postgres, valkey, provider, key, org_id)
        assert (await made.asks())[0] == 200
        yield made


@contextmanager
def stopped_in_its_tracks(pids: list[int]) -> Iterator[None]:
    """The processes hang: their connections stand, and nothing answers."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # its server has ended it meanwhile
                os.kill(pid, signal.SIGCONT)


def with_children(pid: int) -> list[int]:
    """The postmaster first, so that it starts no others."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def valkey_pid(plane: Plane) -> int:
    return int((plane.valkey.data_dir / "valkey.pid").read_text())


@pytest.mark.fault("F38")
async def test_without_valkey_nothing_is_called_and_the_rest_is_served(plane: Plane) -> None:
    spent = await plane.spent_nanousd()
    plane.valkey.kill()
    try:
        await plane.is_refused()
        assert (await plane.asks("/v1/models"))[0] == 200
        await until(plane.is_ready, lambda answer: not answer[0])  # it is asked anew each second
    finally:
        plane.valkey.run()
    await plane.recovers()
    # What was spent before is known again; the call that `recovers` made came on top.
    assert await plane.spent_nanousd() > spent


@pytest.mark.fault("F38")
async def test_a_valkey_that_hangs_is_one_that_is_away(plane: Plane) -> None:
    with stopped_in_its_tracks([valkey_pid(plane)]):
        await plane.is_refused()
        assert (await plane.asks("/v1/models"))[0] == 200
    await plane.recovers()


async def test_without_postgres_nothing_is_called_and_the_rest_is_served(plane: Plane) -> None:
    plane.postgres.stop(immediate=True)
    try:
        await plane.is_refused()
        assert (await plane.asks("/v1/models"))[0] == 200
        await until(plane.is_ready, lambda answer: not answer[0])  # it is asked anew each second
    finally:
        _start_again(plane.postgres)
    await plane.recovers()


def _start_again(server: EmbeddedPostgres) -> None:
    again = EmbeddedPostgres.start(server.data_dir, port=server.port)
    assert again.port == server.port


async def test_a_postgres_that_hangs_is_one_that_is_away(plane: Plane) -> None:
    running = Cluster(plane.postgres.data_dir).running()
    assert running is not None
    with stopped_in_its_tracks(with_children(running.pid)):
        await plane.is_refused()
        assert (await plane.asks("/v1/models"))[0] == 200
    await plane.recovers()


@pytest.mark.req("R86")
@pytest.mark.fault("F61")
async def test_without_the_control_plane_everything_is_served_a_restart_too(plane: Plane) -> None:
    await plane.control.stop(signal.SIGKILL)
    try:
        assert (await plane.asks())[0] == 200
        await plane.data.restart(ready=True)
        assert (await plane.asks())[0] == 200
    finally:
        await plane.control.start()
    await plane.recovers()


@pytest.mark.req("R86")
@pytest.mark.fault("F61")
async def test_a_control_plane_that_hangs_stops_nobody(plane: Plane) -> None:
    assert plane.control.process is not None
    with stopped_in_its_tracks([plane.control.process.pid]):
        for _ in range(3):
            assert (await plane.asks())[0] == 200
    await plane.recovers()


@pytest.mark.req("R55")
async def test_without_its_provider_a_call_is_refused_and_costs_nothing(plane: Plane) -> None:
    spent = await plane.spent_nanousd()
    await plane.provider.stop()
    try:
        await plane.is_refused()
        assert (await plane.asks("/v1/models"))[0] == 200
        ready, checks = await plane.is_ready()
        assert ready, checks  # another replica could do no better
        assert await plane.spent_nanousd() == spent
    finally:
        await plane.provider.start()
    await plane.recovers()


@pytest.mark.req("R55")
async def test_a_provider_that_hangs_is_given_up_and_its_call_counts(plane: Plane) -> None:
    """What it may have done is not known, so the whole hold is spent until it says otherwise."""
    spent = await plane.spent_nanousd()
    plane.provider.hanging = True
    try:
        status, code, _ = await plane.asks()
        assert (status, bool(code)) in ((503, True), (504, True)), (status, code)
    finally:
        plane.provider.hanging = False
    assert await plane.spent_nanousd() > spent
    await plane.recovers()
