"""Daemons are known by pid and start time, and stopped by nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tools.cluster.errors import NotReady
from tools.cluster.processes import Processes, end, identify, is_alive

SLEEP = ["sleep", "60"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path / "run", tmp_path / "log", netns=None)
    yield made
    made.stop(made.names())


def test_what_runs_from_the_same_inputs_is_left_alone(processes: Processes) -> None:
    assert processes.ensure("one", SLEEP, "config")
    pid = processes.pid("one")
    assert not processes.ensure("one", SLEEP, "config")
    assert processes.pid("one") == pid


def test_other_inputs_restart_it(processes: Processes) -> None:
    processes.ensure("one", SLEEP, "config")
    pid = processes.pid("one")
    assert processes.ensure("one", SLEEP, "other")
    assert processes.pid("one") != pid
    assert pid is not None
    assert identify([pid]) == []


def test_stop_ends_it_and_forgets_it(processes: Processes) -> None:
    processes.ensure("one", SLEEP)
    processes.stop(["one", "never-there"])
    assert not processes.alive("one")
    assert processes.names() == []


def test_a_process_that_ignores_sigterm_is_killed(processes: Processes) -> None:
    processes.ensure("deaf", ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"])
    while "deaf" not in processes.last_words("deaf"):
        processes.check("deaf")
    pid = processes.pid("deaf")
    assert pid is not None
    records = identify([pid])
    end(records, patience_seconds=0.3)
    assert not is_alive(records[0])


def test_a_pid_that_went_to_another_process_is_not_ours(
    processes: Processes, tmp_path: Path
) -> None:
    processes.ensure("one", SLEEP)
    pid = processes.pid("one")
    assert pid is not None
    mine = identify([pid])[0]
    record = tmp_path / "run" / "one.pid"
    stale = json.loads(record.read_text())
    record.write_text(json.dumps({**stale, "start_ticks": stale["start_ticks"] - 1}))
    assert not processes.alive("one")
    processes.stop(["one"])
    assert is_alive(mine)
    assert not is_alive(replace(mine, boot_id="another boot"))
    end([mine])


def test_the_death_of_a_daemon_is_told_with_its_last_words(processes: Processes) -> None:
    processes.ensure("short", ["sh", "-c", "echo no such file; exit 1"])
    while processes.alive("short"):
        time.sleep(0.01)
    with pytest.raises(NotReady, match="short ended: no such file"):
        processes.check("short")


def test_half_a_record_is_no_record(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "one.pid").write_text('{"pid": 1')
    assert not processes.alive("one")
    assert processes.ensure("one", SLEEP)
