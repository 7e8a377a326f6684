"""A real Postgres 18 without an installation: the embedded default, and the chart's StatefulSet.

It listens on TCP alone, everybody authenticates by scram-sha-256, fsync and synchronous_commit are
on. `python -m tenantplane.core.db.embedded serve …` runs it in the foreground, for a container.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import psycopg
from psycopg.conninfo import make_conninfo

from tenantplane.core.db.postgres_cluster import LOOPBACK, SUPERUSER, Cluster, reap
from tenantplane.core.errors import ConfigurationRefused, DependencyUnavailable, TenantplaneError

_START_SECONDS = 60.0  # recovery after a kill replays the log; a fresh server takes one
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02


class EmbeddedPostgres:
    """A handle to the server of one data folder. It outlives this process unless `stop` is called."""

    def __init__(self, data_dir: Path, port: int, password: str) -> None:
        self.data_dir = data_dir
        self.port = port
        self._password = password

    def __repr__(self) -> str:
        return f"EmbeddedPostgres(port={self.port})"

    @classmethod
    def start(
        cls, data_dir: Path, *, port: int | None = None, production: bool = False
    ) -> EmbeddedPostgres:
        """Starts the server, or finds it running; heals what a kill left behind. Blocks, about 1 s.

        `port` is a wish for a new server: None picks a free one. Raises ConfigurationRefused
        (production mode, a folder that the server's user cannot reach, a port in use) and
        DependencyUnavailable (it does not come up within 60 s).
        """
        if production:
            raise ConfigurationRefused(
                "The embedded Postgres is not for production.",
                hint="Give DSNs of a Postgres server that is backed up and watched.",
            )
        cluster = Cluster(data_dir.resolve())
        with cluster.locked():
            password = cluster.initialise()
            running = cluster.running()
            if running is not None:
                handle = cls(cluster.folder, running.port, password)
                if handle._answers_before(lambda: cluster.running() != running):
                    return handle
            return cls._launched(cluster, port, password)

    @classmethod
    def _launched(cls, cluster: Cluster, port: int | None, password: str) -> EmbeddedPostgres:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            handle = cls(cluster.folder, port or _free_port(), password)
            launch = cluster.launch(handle.port)
            if handle._answers_before(launch.has_ended):
                return handle
            said = launch.said()
            port_taken = port is None and "could not create any TCP/IP sockets" in said
            # After a kill of the parent alone, its children notice within a second or so.
            children_left = "pre-existing shared memory block" in said
            if not (port_taken or children_left) or time.monotonic() > deadline:
                raise ConfigurationRefused(
                    f"Postgres ended with status {launch.process.returncode}: {said}",
                    hint="The whole story is in server.log in the data folder.",
                )
            time.sleep(_POLL_SECONDS)

    def admin_dsn(self, dbname: str = "postgres") -> str:
        """DSN of the superuser: for the bootstrap, never for a service."""
        return self.dsn(SUPERUSER, self._password, dbname)

    def dsn(self, role: str, password: str, dbname: str) -> str:
        """DSN of a role on this server."""
        return make_conninfo(
            host=LOOPBACK, port=self.port, user=role, password=password, dbname=dbname
        )

    def stop(self, *, immediate: bool = False) -> None:
        """Ends the server: sessions are disconnected, what is committed stays. Safe to call twice.

        `immediate` skips the checkpoint: for data that is thrown away, since the next start has to
        recover. Modes are those of Postgres' manual, section 18.5.

        Raises DependencyUnavailable where it has not ended within 30 s.
        """
        cluster = Cluster(self.data_dir)
        with cluster.locked():
            running = cluster.running()
            if running is None:
                return
            os.kill(running.pid, signal.SIGQUIT if immediate else signal.SIGINT)
            deadline = time.monotonic() + _STOP_SECONDS
            while cluster.running() == running:
                if time.monotonic() > deadline:
                    raise DependencyUnavailable(f"Postgres (pid {running.pid}) does not stop.")
                time.sleep(_POLL_SECONDS)
            reap(running.pid)

    def _answers_before(self, has_ended: Callable[[], bool]) -> bool:
        """False where the server ends instead of answering."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.admin_dsn(), connect_timeout=2).close()
                return True
            except psycopg.OperationalError as not_yet:
                if has_ended():
                    return False
                if time.monotonic() > deadline:
                    raise DependencyUnavailable(
                        f"Postgres does not answer on port {self.port}.",
                        hint="What it said is in server.log in the data folder.",
                        retry_after_seconds=5,
                    ) from not_yet
            time.sleep(_POLL_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def serve(data_dir: Path, *, port: int, listen: str, password_file: Path) -> int:
    """Runs the server in the foreground, initdb first where there is none; returns its status.

    SIGTERM, which Kubernetes sends, would make Postgres wait for every session to leave ("smart"):
    this small parent turns it into a fast shutdown. The password counts on the first start only.

    Raises ConfigurationRefused.
    """
    try:
        password = password_file.read_text(encoding="utf-8").strip()
    except OSError as unreadable:
        raise ConfigurationRefused(
            f"The superuser's password cannot be read: {unreadable.strerror}.",
            hint="Give --password-file a readable file.",
        ) from unreadable
    if not password:
        raise ConfigurationRefused("The superuser's password file is empty.")
    cluster = Cluster(data_dir.resolve())
    stop = _StopRequest()
    with cluster.locked():
        cluster.initialise(password)
        if cluster.running() is not None:
            raise ConfigurationRefused("A server runs on this data folder already.")
        process = cluster.foreground(listen, port)
    return stop.wait_for(process)


class _StopRequest:
    """SIGTERM or SIGINT, remembered from the first moment and passed on as SIGINT."""

    def __init__(self) -> None:
        self._asked = False
        self._process: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)

    def wait_for(self, process: subprocess.Popen[bytes]) -> int:
        self._process = process
        if self._asked:
            process.send_signal(signal.SIGINT)
        return process.wait()


def main(arguments: list[str] | None = None) -> int:
    """`serve --data DIR --port 5432 --listen 0.0.0.0 --password-file F`."""
    parser = argparse.ArgumentParser(prog="python -m tenantplane.core.db.embedded")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="run Postgres in the foreground")
    serving.add_argument("--data", type=Path, required=True)
    serving.add_argument("--port", type=int, default=5432)
    serving.add_argument("--listen", default=LOOPBACK)
    serving.add_argument("--password-file", type=Path, required=True)
    asked = parser.parse_args(arguments)
    try:
        return serve(
            asked.data, port=asked.port, listen=asked.listen, password_file=asked.password_file
        )
    except TenantplaneError as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
