"""containerd of one cluster: its configuration, its images, and what a reboot clears.

Everything that containerd keeps in memory file systems on a real machine (tasks,
sandboxes' namespaces, pods' addresses) is under ``run``. ``forget_pods`` is our
reboot: it ends every container and empties that folder, after which the kubelet
makes each pod anew, as it does after a power cut.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

from tools.cluster import cgroups, residue
from tools.cluster.commands import run, succeeds
from tools.cluster.errors import ClusterError, CommandFailed
from tools.cluster.mounts import unmount_below
from tools.cluster.processes import end, find
from tools.cluster.settings import Settings

PAUSE_IMAGE = "localhost/tenantplane-pause:1"


def config(settings: Settings) -> str:
    """containerd 1.6's configuration, version 2."""
    return f"""version = 2
root = "{settings.state}/containerd"
state = "{settings.run}/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{settings.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without it runc fails on some machines: "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  # Pods' network namespaces in our own folder, not in the host's /run/netns.
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{settings.configs}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  # crun refuses cgroup hierarchies of both versions side by side.
  BinaryName = "runc"
  Root = "{settings.run}/runc"
"""


def ctr(settings: Settings, *arguments: str) -> str:
    return run(["ctr", "--address", str(settings.containerd_socket), "-n", "k8s.io", *arguments])


def answers(settings: Settings) -> bool:
    return settings.containerd_socket.exists() and succeeds(
        ["ctr", "--address", str(settings.containerd_socket), "--connect-timeout", "1s", "version"]
    )


def load(settings: Settings, archive: Path) -> tuple[list[str], bool]:
    """Import an OCI archive; its references, and whether they had to be imported."""
    wanted = archive_images(archive)
    if wanted.items() <= _images(settings).items():
        return sorted(wanted), False
    try:
        ctr(settings, "images", "import", str(archive))
    except CommandFailed as failed:
        raise ClusterError(f"{archive} was not imported: {failed}") from failed
    return sorted(wanted), True


def archive_images(archive: Path) -> dict[str, str]:
    """Reference → digest, from an OCI archive's ``index.json`` (image-spec, image-layout)."""
    if not archive.is_file():
        raise ClusterError(f"no image archive at {archive}: `build-image` makes one")
    with tarfile.open(archive) as tar:
        names = [name for name in tar.getnames() if name in ("index.json", "./index.json")]
        member = tar.extractfile(names[0]) if names else None
        if member is None:
            raise ClusterError(f"{archive} is not an OCI archive: it has no index.json")
        index = json.load(member)
    references = {
        manifest.get("annotations", {}).get("org.opencontainers.image.ref.name", ""): manifest
        for manifest in index["manifests"]
    }
    if "" in references:
        raise ClusterError(f"{archive} has an image without a name: `build-image` gives it one")
    return {reference: manifest["digest"] for reference, manifest in references.items()}


def forget_pods(settings: Settings) -> None:
    """End every container and what carries it; images and stopped records stay.

    The kubelet and containerd must not be running.
    """
    shims = find(["-address", str(settings.containerd_socket)])
    end(cgroups.members(settings.cgroup), patience_seconds=0.5)
    end(shims, patience_seconds=1)
    unmount_below(settings.run / "containerd", settings.kubelet_root)
    residue.remove_of_pods(settings)
    for leftover in ("containerd", "runc", "cni"):
        shutil.rmtree(settings.run / leftover, ignore_errors=True)
    for stale in settings.run.glob("containerd.sock*"):
        stale.unlink()


def _images(settings: Settings) -> dict[str, str]:
    rows = [line.split() for line in ctr(settings, "images", "ls").splitlines()[1:]]
    return {row[0]: row[2] for row in rows if len(row) > 2}
