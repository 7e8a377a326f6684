"""The cgroup that holds all of a cluster's pods, on cgroup v1, v2 or both.

The kubelet puts every pod under it, so its members are exactly the processes of
this cluster's containers.
"""

from __future__ import annotations

import time
from pathlib import Path

from tools.cluster.errors import ClusterError
from tools.cluster.processes import Record, identify

ROOT = Path("/sys/fs/cgroup")

CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")
"""What the kubelet asks of a v2 cgroup, where the kernel has it."""


def ensure(name: str) -> None:
    """Make the cgroup in every hierarchy."""
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        if (hierarchy / "cgroup.controllers").exists():
            _pass_controllers_down(hierarchy)
            _pass_controllers_down(group)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # v1: empty until it is copied down
            own = group / setting
            if own.exists() and (hierarchy / setting).exists() and not own.read_text().strip():
                own.write_text((hierarchy / setting).read_text())


def members(name: str) -> list[Record]:
    """Every process in the cgroup or below it."""
    pids: set[int] = set()
    for hierarchy in _hierarchies():
        for listing in (hierarchy / name).rglob("cgroup.procs"):
            try:
                pids.update(int(pid) for pid in listing.read_text().split())
            except OSError:
                continue  # the cgroup went between the two lines
    return identify(sorted(pids - {0}))


def remove(name: str) -> None:
    """Remove the cgroup, the innermost first. Its processes must have ended."""
    deadline = time.monotonic() + 5
    while left := [folder for root in _hierarchies() for folder in _tree(root / name)]:
        for folder in left:
            try:
                folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"cgroup {folder} is still in use: see its cgroup.procs"
                    ) from None
        time.sleep(0.05)


def _tree(group: Path) -> list[Path]:
    """The cgroup and those below it, the deepest first; none when it is gone."""
    if not group.is_dir():
        return []
    below = [folder for folder in group.rglob("*") if folder.is_dir()]
    return sorted([group, *below], key=lambda folder: -len(folder.parts))


def _hierarchies() -> list[Path]:
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    folders = [folder for folder in ROOT.iterdir() if not folder.is_symlink()]
    return [folder for folder in folders if (folder / "cgroup.procs").exists()]


def _pass_controllers_down(group: Path) -> None:
    offered = (group / "cgroup.controllers").read_text().split()
    passed = (group / "cgroup.subtree_control").read_text().split()
    for controller in set(CONTROLLERS) & set(offered) - set(passed):
        (group / "cgroup.subtree_control").write_text(f"+{controller}")
