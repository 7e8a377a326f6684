"""`python -m tools.mutants`: takes each line of defence away, and shows the test that misses it.

Policies, flags, grants, revokes, keys, checks, the functions that check a proof, filters in SQL,
resets of the pool, namespaces, the strict decoder, associated data and default-deny lists are
enumerated from fresh databases and from the code: what is new appears by itself. The checkout is
never edited. Exit status 1 where a mutant survives, or where the suite is red without one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.mutants.collect import all_mutants
from tools.mutants.mutant import Mutant, Verdict, written

# Whoever kills must be among these: tests in which rows are seen, changed or refused.
KILLERS = (
    "tests/proofs/isolation",
    "tests/integration/core/db/test_sessions.py",
    "tests/integration/core/db/test_pgbouncer_traps.py",
    "tests/integration/dataplane/runtime",
    "tests/integration/dataplane/sources",
    "tests/integration/dataplane/tools",
    "tests/unit/core",
    "tests/unit/dataplane",
)
_ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 1.0


def main(arguments: list[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    mutants = [
        m
        for m in all_mutants()
        if not chosen.only or any(fnmatchcase(m.id, f"*{o}*") for o in chosen.only)
    ]
    excluded = [m for m in mutants if m.excluded]
    mutants = [m for m in mutants if not m.excluded]
    if chosen.list:
        for mutant in mutants:
            print(f"{mutant.id}\t{mutant.weakens}")
        _print_excluded(excluded, sys.stdout)
        print(f"{len(mutants)} mutants")
        return 0
    if not mutants:
        print("No mutant has such an id: see --list.", file=sys.stderr)
        return 2
    # So that whoever stops this stops the workers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    verdicts, complaints = _run(mutants, chosen.processes)
    took = time.monotonic() - started
    if chosen.json:
        rows = [asdict(m) | asdict(verdicts[m.id]) for m in mutants if m.id in verdicts]
        print(json.dumps({"seconds": round(took), "mutants": rows, "complaints": complaints}))
    else:
        _print(mutants, verdicts)
        _print_groups(mutants, verdicts)
    _print_excluded(excluded, sys.stderr if chosen.json else sys.stdout)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    killed = sum(v.killed_by is not None for v in verdicts.values())
    print(
        f"killed {killed} of {len(mutants)}, in {took:.0f} s",
        file=sys.stderr if chosen.json else sys.stdout,
    )
    return 0 if killed == len(mutants) and not complaints else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="ID", action="append", help="these (parts of ids; * ?)")
    parser.add_argument("--list", action="store_true", help="say which there are, and run none")
    parser.add_argument("--json", action="store_true", help="verdicts as JSON on standard output")
    parser.add_argument("--processes", type=int, default=2, help="how many at a time (2)")
    return parser


def _run(mutants: list[Mutant], processes: int) -> tuple[dict[str, Verdict], list[str]]:
    with tempfile.TemporaryDirectory(prefix="tenantplane-mutants-") as folder:
        shards = _shards(mutants, processes)
        workers = [_start(shard, Path(folder) / str(n)) for n, shard in enumerate(shards)]
        try:
            while any(worker.poll() is None for worker, _ in workers):
                time.sleep(_POLL_SECONDS)
                _progress(sum(len(_verdicts(at)) for _, at in workers), len(mutants))
        finally:
            for worker, _ in workers:
                if worker.poll() is None:
                    worker.terminate()
                    worker.wait(30)
        verdicts = {v.mutant: v for _, at in workers for v in _verdicts(at)}
        return verdicts, [line for worker, at in workers for line in _complaints(worker, at)]


def _shards(mutants: list[Mutant], processes: int) -> list[list[Mutant]]:
    """Mutants of one group share their killers, which each process runs first without a mutant: so
    a group stays together, and a single one is dealt out."""
    groups: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        groups.setdefault(mutant.group, []).append(mutant)
    if len(groups) == 1:
        shards = [mutants[number::processes] for number in range(processes)]
    else:
        shards = [[] for _ in range(processes)]
        for group in sorted(groups.values(), key=len, reverse=True):
            min(shards, key=len).extend(group)
    return [shard for shard in shards if shard]


def _start(mutants: list[Mutant], at: Path) -> tuple[subprocess.Popen[bytes], Path]:
    at.mkdir()
    written(mutants, at / "mutants.json")
    places = [place for place in KILLERS if (_ROOT / place).exists()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *places]
    # What cannot be collected kills nothing, and is complained of.
    command.append("--continue-on-collection-errors")
    with (at / "log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--mutants", str(at)], cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT
        ), at


def _verdicts(at: Path) -> list[Verdict]:
    path = at / "verdicts.jsonl"
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    rows = [json.loads(line) for line in whole.splitlines()]
    return [Verdict(**row | {"broke": tuple(row["broke"])}) for row in rows]


def _complaints(worker: subprocess.Popen[bytes], at: Path) -> list[str]:
    path = at / "complaints"
    said = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if not (at / "done").exists():
        said.append(f"worker {at.name} ended early:\n{(at / 'log').read_text()[-3000:]}")
    return said


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {of}", end="\n" if done == of else "", file=sys.stderr, flush=True)
    elif "CI" in os.environ and done == of:
        print(f"{done} of {of}", file=sys.stderr)


def _print(mutants: list[Mutant], verdicts: dict[str, Verdict]) -> None:
    table = Table(title="lines of defence, taken away one at a time", show_lines=False)
    for column in ("mutant", "what it weakens", "ran", "first test that failed"):
        table.add_column(column, overflow="fold")
    for mutant in mutants:
        verdict = verdicts.get(mutant.id)
        if verdict is None:
            table.add_row(escape(mutant.id), escape(mutant.weakens), "-", "[red]did not run[/red]")
            continue
        killer = verdict.killed_by
        shown = "[red]SURVIVED[/red]" if killer is None else escape(killer.rpartition("/")[2])
        table.add_row(escape(mutant.id), escape(mutant.weakens), str(verdict.ran), shown)
    Console(width=None if sys.stdout.isatty() else 220).print(table, markup=True)


def _print_groups(mutants: list[Mutant], verdicts: dict[str, Verdict]) -> None:
    table = Table(title="by group")
    for column in ("group", "killed", "of"):
        table.add_column(column, justify="left" if column == "group" else "right")
    groups: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        groups.setdefault(mutant.group, []).append(mutant)
    for name, members in sorted(groups.items()):
        killed = sum(m.id in verdicts and verdicts[m.id].killed_by is not None for m in members)
        table.add_row(escape(name), str(killed), str(len(members)))
    Console().print(table, markup=True)


def _print_excluded(excluded: list[Mutant], out: TextIO) -> None:
    for mutant in excluded:
        print(f"not run: {mutant.id} ({mutant.weakens}): {mutant.excluded}", file=out)


if __name__ == "__main__":
    sys.exit(main())
