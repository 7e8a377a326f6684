"""Packages that a suite compares itself with, beside the project's own environment.

They are unpacked without their dependencies into the cache folder and put at the end of the import
path, so that peer and product run in one process on the same versions of all that they share.
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


def _install(pins: Sequence[str], folder: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    target = ["--python", sys.executable, "--no-deps", "--target", str(folder)]
    subprocess.run([str(uv), "pip", "install", "-q", *target, *pins], check=True)
    (folder / ".installed").touch()
