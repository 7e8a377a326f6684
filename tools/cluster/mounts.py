"""Mount points: which there are under a folder, and how to be rid of them."""

from __future__ import annotations

import re
from pathlib import Path

from tools.cluster.commands import run, succeeds


def unmount_below(*folders: Path) -> None:
    """Unmount everything mounted under these folders, the innermost first."""
    for point in reversed(mounts_below(*folders)):
        if not succeeds(["umount", str(point)]):
            run(["umount", "--lazy", str(point)])


def mounts_below(*folders: Path) -> list[Path]:
    """Mount points at or under the folders, in the order in which they were mounted."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(_unescaped(line.split()[4])) for line in lines]
    return [point for point in points if any(point.is_relative_to(one) for one in folders)]


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), path)
