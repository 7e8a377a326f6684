from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tenantplane.cli.local.process import Processes
from tenantplane.core.errors import DependencyUnavailable

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


def test_what_an_earlier_launcher_left_is_ended(tmp_path: Path) -> None:
    killed = Processes(tmp_path)  # its launcher dies here, and stops nothing
    killed.start("sleeper", SLEEP, {})
    killed.require_running()
    Processes(tmp_path).end_left_over()
    with pytest.raises(DependencyUnavailable, match="sleeper ended"):
        killed.require_running()


def test_a_pid_that_is_another_process_now_is_left_alone(tmp_path: Path) -> None:
    ours = Processes(tmp_path)
    ours.start("sleeper", SLEEP, {})
    record = tmp_path / "processes.json"
    # As after a reboot: the pid is taken, by a process that started at another time.
    pid = int(record.read_text().split("[")[1].split(",")[0])
    record.write_text(f'{{"sleeper": [{pid}, 1]}}')
    Processes(tmp_path).end_left_over()
    ours.require_running()
    ours.stop()


def test_a_process_that_ended_is_told_with_its_last_words(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("talker", (sys.executable, "-c", "print('no such file'); exit(3)"), {})
    processes._running["talker"].wait()
    with pytest.raises(DependencyUnavailable, match="talker ended with status 3: no such file"):
        processes.require_running()
    processes.stop()
