"""A small deployment that can be broken: two replicas, their Postgres and Valkey, the ways between
them, a scripted control plane and a scripted model that counts its calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from redis import Redis
from redis.exceptions import RedisError

from tenantplane.core.db.bootstrap import RolePasswords
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.postgres_cluster import Cluster
from tenantplane.core.db.provision import ContextKey, Provisioned, provision
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tenantplane.dataplane.api.asgi import Receive, Scope, Send
from tenantplane.dataplane.models.scripted import ScriptedModel
from tests.fixtures.dataplane import MIGRATIONS, database_environment, until
from tests.fixtures.faults_network import Link, tcp_link, unix_link
from tests.fixtures.models import serving
from tests.fixtures.scripted_control_plane import ScriptedControlPlane, ScriptedPlane

ROOT = Path(__file__).parents[3]
REPLICAS = 2
START_SECONDS = 30.0
_STARTS = 4
# Scaled down, so that what a crash leaves open ends while the test waits for it.
TIMES = {"commit_window": 1.2, "grace": 0.3, "clock_margin": 0.1}
_ORG_CUE = re.compile(rb"\[\[org:([a-z0-9-]+)\]\]")


class ReplicaEnded(AssertionError):
    """It ended by itself, before it was ready."""


@dataclass
class CountedModel:
    """The provider's own log: how many calls it was asked for, by org."""

    model: ScriptedModel
    calls: Counter[str] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def reading() -> Any:
            message = await receive()
            if found := _ORG_CUE.search(message.get("body", b"")):
                self.calls[found.group(1).decode()] += 1
            return message

        await self.model(scope, reading, send)


@dataclass
class Replica:
    """One replica of the plane, alive or not."""

    number: int
    environment: dict[str, str]
    to_valkey: Link
    to_postgres: Link
    port: int = 0
    pid: int = 0
    told: asyncio.StreamWriter | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tell(self, message: dict[str, Any]) -> None:
        if self.told is not None and not self.gone.is_set():
            self.told.write(json.dumps(message).encode() + b"\n")


class Deployment:
    """Use as `async with Deployment.started(control, plane) as it`."""

    def __init__(
        self,
        control: ScriptedControlPlane,
        plane: ScriptedPlane,
        postgres: EmbeddedPostgres,
        valkey: EmbeddedValkey,
        provisioned: Provisioned,
        model: CountedModel,
        folder: Path,
        sabotage: str,
        times: dict[str, float],
    ) -> None:
        self.control = control
        self.plane = plane
        self.postgres = postgres
        self.valkey = valkey
        self.provisioned = provisioned
        self.model = model
        self.folder = folder
        self.replicas: list[Replica] = []
        self.spoilt = False
        self.http: aiohttp.ClientSession
        # The direct way, for looking: no fault of a link reaches it.
        self.store = AdmissionStore(valkey.settings)
        self._sabotage = sabotage
        self._times = times
        self._nursery: asyncio.subprocess.Process

    @classmethod
    @asynccontextmanager
    async def started(
        cls,
        control: ScriptedControlPlane,
        *,
        sabotage: str = "",
        times: dict[str, float] | None = None,
    ) -> AsyncIterator[Self]:
        async with AsyncExitStack() as opened:
            folder = Path(tempfile.mkdtemp(prefix="tp-faults-"))
            opened.callback(shutil.rmtree, folder)
            data = Path(tempfile.mkdtemp(prefix="tp-faults-pg-"))
            opened.callback(shutil.rmtree, data)
            postgres = await asyncio.to_thread(EmbeddedPostgres.start, data)
            opened.callback(postgres.stop, immediate=True)
            valkey = await asyncio.to_thread(EmbeddedValkey.start, folder / "vk")
            opened.callback(valkey.stop)
            model = CountedModel(ScriptedModel(latency_seconds=0.01, tokens_per_second=2000))
            address = await opened.enter_async_context(serving(model))
            made = cls(
                control,
                control.plane(f"faults-{secrets.token_hex(4)}"),
                postgres,
                valkey,
                await _provisioned(postgres),
                model,
                folder,
                sabotage,
                TIMES | (times or {}),
            )
            # By polls alone: a stream that ends with its plane's life leaves the condition locked that
            # announcements wait for.
            made.plane.mute = True
            opened.push_async_callback(made.store.close)
            made.http = await opened.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, force_close=False),
                    timeout=aiohttp.ClientTimeout(total=20),
                )
            )
            await made._start_replicas(opened, f"{address}/v1")
            yield made

    async def start(self, replica: Replica) -> None:
        """Starts a replica that is not there; returns when it is ready. One that cannot start while
        another kill lasts ends, and is started again, as a kubelet would."""
        for _ in range(_STARTS - 1):
            try:
                await self._start_once(replica)
            except ReplicaEnded:
                continue
            return
        await self._start_once(replica)

    async def _start_once(self, replica: Replica) -> None:
        """On a port of its own each time: the old one may be somebody else's by now."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            replica.port = probe.getsockname()[1]
        replica.gone.clear()
        replica.reached.clear()
        orders = {
            "environment": replica.environment,
            "socket": str(self.folder / "points"),
            "replica": replica.number,
            "port": replica.port,
            "log": str(self.log),
            "sabotage": self._sabotage,
            "times": self._times,
        }
        replica.pid = int(await self._ask_nursery(json.dumps(orders)))
        # A line on the socket first: only then does the end of the connection mean its end.
        await asyncio.wait_for(self._hello[replica.number].wait(), START_SECONDS)
        self._hello[replica.number].clear()
        await until(lambda: self._status(replica), lambda answer: answer[0] == 200, START_SECONDS)
        replica.ready.set()

    async def all_serve(self, secret: str) -> None:
        """Until each replica accepts the key: what was put before it has arrived too."""
        for replica in self.replicas:
            await until(
                partial(self._status, replica, "/v1/models", secret),
                lambda answer: answer[0] == 200,
            )

    def last_words(self) -> str:
        """The end of what the replicas said."""
        return self.log.read_text()[-3000:]

    async def kill_plane(self, replica: Replica) -> None:
        """For the end of a deployment; in schedules replicas die by their own hand, in a gap."""
        replica.ready.clear()
        if replica.pid and not replica.gone.is_set():
            os.kill(replica.pid, signal.SIGKILL)
            await asyncio.wait_for(replica.gone.wait(), 10)

    async def kill_valkey(self) -> None:
        await asyncio.to_thread(self._save_valkey)
        await asyncio.to_thread(self.valkey.kill)

    def _save_valkey(self) -> None:
        """An operator's server may keep its data: then it is all there after the kill."""
        with contextlib.suppress(RedisError, OSError), Redis.from_url(self.valkey.url) as client:
            client.save()  # kills overlap: it may be dead already

    async def start_valkey(self, *, emptied: bool) -> None:
        if emptied:
            (self.valkey.data_dir / "dump.rdb").unlink(missing_ok=True)
        await asyncio.to_thread(self.valkey.run)

    async def kill_postgres(self) -> None:
        running = Cluster(self.postgres.data_dir).running()
        if running is not None:  # kills overlap: it may be dead already
            os.kill(running.pid, signal.SIGKILL)

    async def start_postgres(self) -> None:
        await asyncio.to_thread(
            EmbeddedPostgres.start, self.postgres.data_dir, port=self.postgres.port
        )

    async def query(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """Reads as the owner, whom no tenant policy binds: for looking, never for acting."""
        async with await psycopg.AsyncConnection.connect(
            self.provisioned.owner_dsn, row_factory=dict_row, connect_timeout=2
        ) as connection:
            return await (await connection.execute(sql, parameters)).fetchall()

    @property
    def log(self) -> Path:
        return self.folder / "replicas.log"

    async def _start_replicas(self, opened: AsyncExitStack, model_url: str) -> None:
        self._hello = [asyncio.Event() for _ in range(REPLICAS)]
        points = await asyncio.start_unix_server(self._listen, self.folder / "points")
        opened.callback(points.close)
        self._nursery = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.proofs.money.replica"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        opened.push_async_callback(self._end_nursery)
        assert self._nursery.stdout is not None
        assert await self._nursery.stdout.readline() == b"ready\n"
        master_key = secrets.token_hex(32)
        for number in range(REPLICAS):
            links = (
                unix_link(str(self.valkey.socket)),
                tcp_link(self.postgres.port),
            )
            for link in links:
                await link.open()
                opened.push_async_callback(link.close)
            environment = self._environment(*links, model_url, master_key)
            replica = Replica(number, environment, *links)
            self.replicas.append(replica)
            opened.push_async_callback(self.kill_plane, replica)
            await self.start(replica)

    def _environment(
        self, to_valkey: Link, to_postgres: Link, model_url: str, master_key: str
    ) -> dict[str, str]:
        environment = database_environment(self.provisioned)
        for name in ("APP_DSN", "SYSTEM_DSN"):
            key = "TENANTPLANE_DATABASE__" + name
            environment[key] = make_conninfo(environment[key], port=to_postgres.port)
        provider = {"base_url": model_url, "timeout_seconds": 3}
        return environment | {
            "TENANTPLANE_DATABASE__POOL_WAIT_SECONDS": "1.5",
            "TENANTPLANE_VALKEY__URL": f"redis://:{quote(self.valkey.password)}@127.0.0.1:"
            f"{to_valkey.port}/0",
            "TENANTPLANE_VALKEY__TIMEOUT_SECONDS": "0.3",
            "TENANTPLANE_MASTER_KEY": master_key,
            "TENANTPLANE_CONTROL_PLANE_URL": self.control.url,
            "TENANTPLANE_PLANE": self.plane.name,
            "TENANTPLANE_ENROLMENT_TOKEN": self.plane.enrolment_token,
            "TENANTPLANE_PROVIDERS": json.dumps({"default": provider}),
            "TENANTPLANE_PEERING__POLL_SECONDS": "0.2",
            "TENANTPLANE_PEERING__LONGEST_PAUSE_SECONDS": "1",
            "TENANTPLANE_SHIP_SECONDS": "0.1",
            "TENANTPLANE_SWEEP_SECONDS": "0.2",
            "TENANTPLANE_DOCUMENTS__RE_EMBED_SECONDS": "3600",
            "TENANTPLANE_VECTORS__INDEX_SECONDS": "3600",
            "TENANTPLANE_LOG_LEVEL": "WARNING",
        }

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = json.loads(await reader.readline())
        replica = self.replicas[hello["replica"]]
        replica.told = writer
        self._hello[replica.number].set()
        with contextlib.suppress(ConnectionError):
            while await reader.readline():
                replica.reached.set()
        replica.ready.clear()
        replica.gone.set()
        writer.close()

    async def _ask_nursery(self, line: str) -> bytes:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(line.encode() + b"\n")
        return await asyncio.wait_for(self._nursery.stdout.readline(), START_SECONDS)

    async def _end_nursery(self) -> None:
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        await asyncio.wait_for(self._nursery.wait(), 10)

    async def _status(
        self, replica: Replica, path: str = "/readyz", secret: str | None = None
    ) -> tuple[int, str]:
        if replica.gone.is_set():
            raise ReplicaEnded(f"a replica ended: {self.last_words()}")
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        try:
            async with self.http.get(replica.base_url + path, headers=headers) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, "it does not listen yet"


async def _provisioned(postgres: EmbeddedPostgres) -> Provisioned:
    return await provision(
        postgres.admin_dsn(),
        "data",
        MIGRATIONS,
        RolePasswords.generate(),
        ContextKey("k1", secrets.token_bytes(32)),
    )
