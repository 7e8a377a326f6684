"""Daemons that outlive the shell that started them, known by pid and start time.

A pid alone may come to belong to somebody else; the kernel's start time of the
process and the boot's id beside it make the pair unique. Nothing is ever stopped
by name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.cluster.commands import write
from tools.cluster.errors import NotReady

STOP_SECONDS = 1.5
"""How long a process may take over SIGTERM before SIGKILL.

The API server would drain for a minute and keeps no state; all others need a tenth of
a second, and etcd stands SIGKILL as it stands a power cut.
"""


@dataclass(frozen=True)
class Record:
    """A process that we started."""

    pid: int
    start_ticks: int
    boot_id: str
    inputs: str
    """What it was started from (arguments and configuration); other inputs mean a restart."""


class Processes:
    """The daemons of one cluster: a record in ``run/NAME.pid``, output in ``logs/NAME.log``."""

    def __init__(self, run: Path, logs: Path, netns: Path | None) -> None:
        self._run = run
        self._logs = logs
        self._netns = netns

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def ensure(self, name: str, argv: list[str], inputs: str = "") -> bool:
        """Leave what runs from the same inputs; else (re)start it. Whether it was started."""
        inputs = json.dumps([argv, inputs])
        record = self._read(name)
        if record and is_alive(record):
            if record.inputs == inputs:
                return False
            self.stop([name])
        self._start(name, argv, inputs)
        return True

    def alive(self, name: str) -> bool:
        record = self._read(name)
        return record is not None and is_alive(record)

    def pid(self, name: str) -> int | None:
        record = self._read(name)
        return record.pid if record and is_alive(record) else None

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._run.glob("*.pid"))

    def stop(self, names: list[str]) -> None:
        """Stop these together, each by its recorded pid."""
        records = [record for name in names if (record := self._read(name))]
        end(records)
        for name in names:
            self._record(name).unlink(missing_ok=True)

    def check(self, name: str) -> None:
        """Raise ``NotReady`` with the end of its log if it has died."""
        if not self.alive(name):
            raise NotReady(f"{name} ended: {self.last_words(name)} (log: {self.log(name)})")

    def last_words(self, name: str) -> str:
        log = self.log(name)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return next((line[:300] for line in reversed(lines) if line.strip()), "it said nothing")

    def _start(self, name: str, argv: list[str], inputs: str) -> None:
        self._run.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        # nsenter changes only the network namespace and then becomes the program,
        # so the pid stays. `ip netns exec` would also hide /sys/fs/cgroup.
        enter = ["nsenter", f"--net={self._netns}"] if self._netns else []
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                enter + argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                cwd="/", env=_clean_environment(), start_new_session=True,
            )  # fmt: skip
        child.returncode = 0  # it outlives us: nobody here will wait for it
        record = Record(child.pid, start_ticks(child.pid) or 0, _boot_id(), inputs)
        write(self._record(name), json.dumps(asdict(record)))

    def _record(self, name: str) -> Path:
        return self._run / f"{name}.pid"

    def _read(self, name: str) -> Record | None:
        try:
            return Record(**json.loads(self._record(name).read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None


def find(wanted: list[str]) -> list[Record]:
    """Processes whose command line has all of ``wanted`` as whole arguments.

    For containerd's shims: they leave their parent, but carry the cluster's own socket path.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if all(word in arguments for word in wanted):
                found += identify([int(entry.name)])
    return found


def identify(pids: list[int]) -> list[Record]:
    """Records for pids that are known to be ours right now."""
    boot = _boot_id()
    return [Record(pid, ticks, boot, "") for pid in pids if (ticks := start_ticks(pid))]


def end(records: list[Record], patience_seconds: float = STOP_SECONDS) -> None:
    """SIGTERM, then SIGKILL for what is left after the patience."""
    waiting = [record for record in records if is_alive(record)]
    _send(waiting, signal.SIGTERM)
    deadline = time.monotonic() + patience_seconds
    while waiting and time.monotonic() < deadline:
        time.sleep(0.05)
        waiting = [record for record in waiting if is_alive(record)]
    _send(waiting, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(is_alive(record) for record in waiting) and time.monotonic() < deadline:
        time.sleep(0.05)


def is_alive(record: Record) -> bool:
    """Whether this very process, not a later one of the same pid, still runs."""
    return record.boot_id == _boot_id() and start_ticks(record.pid) == record.start_ticks


def start_ticks(pid: int) -> int | None:
    """Field 22 of ``/proc/PID/stat`` (proc(5)); None for no process or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _send(records: list[Record], number: signal.Signals) -> None:
    for record in records:
        if is_alive(record):
            try:
                os.kill(record.pid, number)
            except ProcessLookupError:
                continue  # it ended by itself between the two lines


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _clean_environment() -> dict[str, str]:
    """Daemons must not depend on the shell that happened to start them."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
