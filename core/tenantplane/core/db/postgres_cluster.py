"""The files of an embedded Postgres, and the process that serves them.

<folder>/pgdata              the cluster
<folder>/superuser-password  scram password of `postgres`, mode 0600
<folder>/server.log          what the server said
<folder>/lock                held while a process starts or stops the server
<folder>/install/            copy of the binaries, only where root cannot share the wheel's
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tenantplane.core.db.postgres_install import (
    RunAs,
    binaries,
    can_traverse,
    clean_environment,
    run,
)
from tenantplane.core.errors import ConfigurationRefused

SUPERUSER = "postgres"
LOOPBACK = "127.0.0.1"

_NOBODY = 2**31 - 2  # above any kernel's highest pid

# Nobody is trusted for where they come from, not even on loopback.
_PG_HBA = """\
# TYPE  DATABASE  USER  ADDRESS      METHOD
local   all       all                scram-sha-256
host    all       all   0.0.0.0/0    scram-sha-256
host    all       all   ::/0         scram-sha-256
"""
_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    # Statements may carry tenants' values, and a failing one would put them into the log.
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}

# Servers that this process started: kept, so that a dead one can be reaped.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    pid: int
    port: int


@dataclass(frozen=True)
class Launch:
    """A server that is starting, and where in the log its own words begin."""

    process: subprocess.Popen[bytes]
    log: Path
    log_offset: int

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        """Its last lines, in one."""
        words = self.log.read_bytes()[self.log_offset :].decode(errors="replace")
        return " | ".join(words.splitlines()[-5:])


class Cluster:
    """The files of one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pgdata = folder / "pgdata"
        self.run_as = RunAs.unprivileged()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One starter or stopper at a time; the lock ends with its process."""
        made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if made or not any(self.folder.iterdir()):
            self.run_as.own(self.folder)
        if not can_traverse(self.folder, self.run_as):
            raise ConfigurationRefused(
                f"The server's user cannot reach the data folder {self.folder.name!r}.",
                hint="Put it outside any home, such as under /var/lib; no folder is opened for it.",
            )
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def initialise(self, password: str | None = None) -> str:
        """Makes the cluster once; returns the superuser's password."""
        secret = self.folder / "superuser-password"
        if not (self.pgdata / "initialised").exists():
            self._initdb(secret, password or secrets.token_urlsafe(24))
        return secret.read_text(encoding="utf-8").strip()

    def _initdb(self, secret: Path, password: str) -> None:
        descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(password + "\n")
        self.run_as.own(secret)
        self._discard_half_made()
        run(
            [
                self.binaries() / "initdb",
                f"--pgdata={self.pgdata}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ],
            self.run_as,
        )
        (self.pgdata / "pg_hba.conf").write_text(_PG_HBA, encoding="utf-8")
        (self.pgdata / "initialised").touch()

    def _discard_half_made(self) -> None:
        # Without our mark nothing was ever served from it: initdb was cut short. It is set aside,
        # not removed, in case somebody put a cluster of their own here.
        if self.pgdata.exists():
            self.pgdata.rename(self.folder / f"pgdata.unfinished-{secrets.token_hex(4)}")

    def binaries(self) -> Path:
        return binaries(self.folder / "install", self.run_as)

    def command(self, listen: str, port: int) -> list[str]:
        settings = _SETTINGS | {"listen_addresses": listen, "port": str(port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.binaries() / "postgres"), "-D", str(self.pgdata), *options]

    def launch(self, port: int) -> Launch:
        """Starts the server on loopback in a session of its own, its output in server.log."""
        self.disown_recycled_pid()
        with (self.folder / "server.log").open("ab") as log:
            before = log.tell()
            process = self._popen(self.command(LOOPBACK, port), log)
        return Launch(process, Path(log.name), before)

    def foreground(self, listen: str, port: int) -> subprocess.Popen[bytes]:
        """Starts the server as a child that shares our output, for a container."""
        self.disown_recycled_pid()
        return self._popen(self.command(listen, port), None)

    def _popen(self, command: list[str], log: BinaryIO | None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=clean_environment(),
            start_new_session=True,
            user=self.run_as.uid,
            group=self.run_as.gid,
            extra_groups=self.run_as.extra_groups,
        )
        _children.append(process)
        return process

    def running(self) -> Running | None:
        """This cluster's server, as postmaster.pid and the process table tell it."""
        # The format stands in Postgres' src/include/utils/pidfile.h: pid, folder, start, port, …
        lines = self._pid_lines()
        if len(lines) < 4 or not (lines[0].isdigit() and lines[3].isdigit()):
            return None
        pid = int(lines[0])
        return Running(pid, int(lines[3])) if _is_postgres(pid) else None

    def disown_recycled_pid(self) -> None:
        """After a kill, postmaster.pid names a dead process, or one that got its number since.

        Postgres forgives the first, and would refuse to start for ever on the second. The file is
        not removed: the rest of it is how Postgres sees that children of the old server live on.
        """
        for child in _children:
            child.poll()  # a zombie would look alive to Postgres
        lines = self._pid_lines()
        if lines and self.running() is None:
            (self.pgdata / "postmaster.pid").write_text(
                "\n".join([str(_NOBODY), *lines[1:]]) + "\n", encoding="utf-8"
            )

    def _pid_lines(self) -> list[str]:
        try:
            return (self.pgdata / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []


def reap(pid: int) -> None:
    """Collects the status of a server that this process started and that has ended."""
    for child in [c for c in _children if c.pid == pid]:
        child.wait()
        _children.remove(child)


def _is_postgres(pid: int) -> bool:
    # A zombie (killed, its parent has not waited yet) has no command line and serves nobody.
    if Path("/proc/self/cmdline").exists():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:
        shown = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True
        )
        command = shown.stdout.split(" ")[0].strip()
    return re.search(r"(^|/)postgres$", command) is not None
