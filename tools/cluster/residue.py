"""What the components leave in folders that are everybody's, and its removal.

Some paths are written into containerd, the kubelet and CNI and cannot be moved into
a cluster's own folder. What is ours there is known by a sandbox's id or by the
target of a link, so nothing of another cluster or program is touched.
"""

from __future__ import annotations

from pathlib import Path

from tools.cluster.mounts import unmount_below
from tools.cluster.settings import Settings

CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOGS = Path("/var/log/containers")
SHIM_SOCKETS = Path("/run/containerd/s")
NAMESPACES = Path("/run/netns")


def remove_of_pods(settings: Settings) -> None:
    """CNI's cached results, shims' sockets and log links of this cluster's pods."""
    recorded = settings.state / "containerd" / "io.containerd.grpc.v1.cri" / "sandboxes"
    ids = {folder.name for folder in recorded.glob("*")}
    for cached in CNI_RESULTS.glob("*"):  # NETWORK-SANDBOX-INTERFACE
        if ids.intersection(cached.name.split("-")):
            cached.unlink(missing_ok=True)
    tasks = settings.run / "containerd" / "io.containerd.runtime.v2.task"
    for address in tasks.glob("*/*/address"):
        Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)
    for link in CONTAINER_LOGS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(settings.state):
            link.unlink(missing_ok=True)


def remove_empty_folders() -> None:
    """The shared folders themselves, once they are empty, after the last cluster."""
    for folder in (CNI_RESULTS, CNI_RESULTS.parent, CONTAINER_LOGS):
        remove_if_empty(folder)
    if {entry.name for entry in _entries(SHIM_SOCKETS.parent)} == {SHIM_SOCKETS.name}:
        remove_if_empty(SHIM_SOCKETS)  # a containerd of the machine's own has more in there
        remove_if_empty(SHIM_SOCKETS.parent)
    if not _entries(NAMESPACES):
        unmount_below(NAMESPACES)  # `ip netns` mounts it on itself
        remove_if_empty(NAMESPACES)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that nobody uses; fine when it is gone."""
    if folder.is_dir() and not _entries(folder):
        folder.rmdir()


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
