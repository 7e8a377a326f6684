"""Packages that a suite compares itself with, beside the project's own environment.

Libraries are unpacked without their dependencies into the cache folder and put at the end of the
import path, so that peer and product run in one process on the same versions of all that they
share. Servers get an environment of their own there, with all that they ask for.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.cluster.settings import cache_root


def importable(*pins: str) -> None:
    """Makes packages importable, `name==version` each. Raises CalledProcessError where they cannot
    be had."""
    folder = cache_root() / "bench-peers" / "_".join(pins)
    if not (folder / ".installed").exists():
        _install(pins, folder)
    if str(folder) not in sys.path:
        # At the end: what the project has installed itself is never taken from here.
        sys.path.append(str(folder))


def python_environment(*pins: str) -> Path:
    """The folder of programs of an environment that has these and what they need, `name==version`
    each. Raises CalledProcessError where they cannot be had."""
    folder = cache_root() / "bench-peers" / "_".join(pins).replace("/", "_")
    if not (folder / ".installed").exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, str(folder)], check=True)
        python = str(folder / "bin" / "python")
        subprocess.run([uv, "pip", "install", "-q", "-p", python, *pins], check=True)
        (folder / ".installed").touch()
    return folder / "bin"


def node_package(pin: str) -> Path:
    """The folder of a package of npm's with what it needs, `name@version`. Raises
    CalledProcessError where it cannot be had, FileNotFoundError where there is no npm."""
    folder = cache_root() / "bench-peers" / pin.replace("/", "_")
    if not (folder / ".installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(["npm", "install", *quiet, "--prefix", str(folder), pin], check=True)
        (folder / ".installed").touch()
    return folder / "node_modules" / pin.rpartition("@")[0]


def _install(pins: Sequence[str], folder: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    target = ["--python", sys.executable, "--no-deps", "--target", str(folder)]
    subprocess.run([str(uv), "pip", "install", "-q", *target, *pins], check=True)
    (folder / ".installed").touch()
