"""What every suite writes: bench/results/<suite>.json, and a line per figure. Never fails a run."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number beside its goal. `holds` is None where there is no goal."""

    name: str
    value: float
    unit: str
    goal: str | None
    holds: bool | None
    samples: tuple[float, ...]


def at_most(name: str, samples: Sequence[float], unit: str, goal: float) -> Figure:
    """The median of `samples`, which should not pass `goal`."""
    value = statistics.median(samples)
    return Figure(name, round(value, 3), unit, f"<= {goal:g}", value <= goal, _rounded(samples))


def at_least(name: str, samples: Sequence[float], unit: str, goal: float) -> Figure:
    """The median of `samples`, which should reach `goal`."""
    value = statistics.median(samples)
    return Figure(name, round(value, 3), unit, f">= {goal:g}", value >= goal, _rounded(samples))


def plain(name: str, samples: Sequence[float], unit: str) -> Figure:
    """The median of `samples`, without a goal."""
    value = statistics.median(samples)
    return Figure(name, round(value, 3), unit, None, None, _rounded(samples))


def write(suite: str, figures: Sequence[Figure], packages: Sequence[str]) -> Path:
    """Writes the suite's file and prints one line per figure."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{suite}.json"
    document = {
        "suite": suite,
        "command": f"make bench ARGS={suite}",
        "commit": _commit(),
        "machine": {
            "cores": os.cpu_count(),
            "memory_gib": round(
                os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
            ),
            "kernel": platform.release(),
            "architecture": platform.machine(),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "figures": [asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    for figure in figures:
        word = {True: "holds", False: "MISSES", None: ""}[figure.holds]
        print(f"{figure.name:28} {figure.value:>10g} {figure.unit:5} {figure.goal or '':10} {word}")
    print(f"written to {path.relative_to(Path.cwd())}")
    return path


def _rounded(samples: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(sample, 4) for sample in samples)


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
