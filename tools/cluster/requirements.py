"""Check that this machine can carry the bare node, and say what is missing in one line."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tools.cluster.commands import run, succeeds
from tools.cluster.errors import CommandFailed, MissingRequirement
from tools.cluster.steps import step

NODE_PROGRAMS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "nft": "nftables",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "socat": "socat",
    "ethtool": "ethtool",
}
"""Program → Debian package, for ``up``."""

IMAGE_PROGRAMS = {"buildah": "buildah", "debootstrap": "debootstrap"}
"""Program → Debian package, for ``build-image``."""


def require_linux_root() -> None:
    """The bare node needs Linux and root; the message says the ways around that."""
    if sys.platform != "linux":
        raise MissingRequirement(
            f"{sys.platform} cannot run the bare node",
            "start Docker and install kind, or pass --kubeconfig of a cluster that you have",
        )
    if os.geteuid() != 0:
        raise MissingRequirement(
            "not root",
            "run again with sudo, or start Docker and install kind, or pass --kubeconfig",
        )


def require_kernel() -> None:
    """What pods need of the kernel; modules are loaded where they can be."""
    needs = {
        "overlay file system": lambda: "overlay" in Path("/proc/filesystems").read_text(),
        "bridge netfilter (br_netfilter)": Path("/proc/sys/net/bridge").is_dir,
        "network namespaces": Path("/proc/self/ns/net").exists,
        "cgroups": Path("/sys/fs/cgroup").is_dir,
    }
    modules = {
        "overlay file system": "overlay",
        "bridge netfilter (br_netfilter)": "br_netfilter",
    }
    for what, present in needs.items():
        if not present() and what in modules:
            succeeds(["modprobe", modules[what]])
        if not present():
            raise MissingRequirement(
                f"this kernel has no {what}", "use one that has, or pass --kubeconfig"
            )
    try:
        run(["nft", "list", "tables"])
    except CommandFailed as failed:
        raise MissingRequirement(
            "this kernel has no nftables", "use one that has, or pass --kubeconfig"
        ) from failed


def require_programs(programs: dict[str, str], install: bool) -> None:
    """Install the Debian packages of missing programs, or say which to install."""
    missing = _missing(programs)
    if missing and install and shutil.which("apt-get"):
        with step(f"installing Debian packages: {' '.join(missing)}"):
            # RUNLEVEL=1: a package's service (containerd's own) is not started.
            quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
            run(["apt-get", "update", "-qq"], env=quiet)
            run(
                ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
                env=quiet,
            )
        missing = _missing(programs)
    if missing:
        raise MissingRequirement(
            f"missing packages {' '.join(missing)}",
            f"apt-get install {' '.join(missing)}, then run again",
        )


def _missing(programs: dict[str, str]) -> list[str]:
    def there(program: str) -> bool:
        return Path(program).exists() if program.startswith("/") else bool(shutil.which(program))

    return sorted({package for program, package in programs.items() if not there(program)})
