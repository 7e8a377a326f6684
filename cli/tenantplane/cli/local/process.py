"""Child processes of the local stack: started with their pid on record, ended by that pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tenantplane.core.errors import DependencyUnavailable

_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.05


class Processes:
    """The stack's processes, on record in `folder`/processes.json.

    A launcher that was killed leaves its children; the next start ends them by that record, each
    identified by pid and start time, so that a pid that was given to another is left alone.
    """

    def __init__(self, folder: Path) -> None:
        self._record = folder / "processes.json"
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Output goes to logs/<name>.log. A session of its own keeps Ctrl-C for the launcher."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._write()

    def require_running(self) -> None:
        """Raises DependencyUnavailable with the last words of a process that has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise DependencyUnavailable(
                    f"{name} ended with status {process.returncode}: {self.last_words(name)}",
                    hint=f"All it said is in {self._logs / f'{name}.log'}.",
                )

    def last_words(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else "it said nothing"

    def stop(self) -> None:
        """Ends all, the last started first."""
        for name in reversed(list(self._running)):
            process = self._running.pop(name)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._record.unlink(missing_ok=True)

    def end_left_over(self) -> None:
        """Ends what an earlier launcher left behind."""
        if not self._record.exists():
            return
        left = [
            (pid, started)
            for pid, started in json.loads(self._record.read_text()).values()
            if _start_time(pid) == started
        ]
        for pid, _ in left:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while any(_start_time(pid) == started for pid, started in left):
            if time.monotonic() > deadline:
                for pid, started in left:
                    if _start_time(pid) == started:
                        os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        self._record.unlink()

    def _write(self) -> None:
        record = {n: (p.pid, _start_time(p.pid)) for n, p in self._running.items()}
        self._record.write_text(json.dumps(record))


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat (proc(5)); None for a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])
