"""From a cluster's name to everything that must not collide with another's.

Pure: nothing here looks at the machine. ``network.choose_settings`` walks
``candidates(name)`` and takes the first whose addresses are free.

Addresses. Cluster N owns ``10.N.0.0/16`` (N from 64 to 127, by the name's hash),
so one route on the host reaches all of it::

    10.N.0.0/20      pods; 10.N.0.1 is the bridge and the node
    10.N.128.0/20    Services; .1 is the API server, .10 is DNS
    10.N.255.0/30    the wire to the host: .1 the host's end, .2 the node's

Ports need no choice: the node has a network namespace of its own (see
``network.py``), so 6443, 10250 and NodePorts are free in it by construction.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEFAULT_NAME = "tenantplane"

FIRST_OCTET = 64
OCTETS = 64

# A name becomes folders, a network namespace, a node name and cgroups. 24
# characters keep every Unix socket path below the kernel's 108.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,22}[a-z0-9])?")

STATE_ROOT = Path("/var/lib/tenantplane")
RUN_ROOT = Path("/run/tenantplane")


def cache_root() -> Path:
    """Where builds and images are kept between clusters."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "tenantplane"


@dataclass(frozen=True)
class Settings:
    """All that a cluster's name decides."""

    name: str
    octet: int
    """The N of ``10.N.0.0/16``."""

    @property
    def cluster_cidr(self) -> str:
        return f"10.{self.octet}.0.0/16"

    @property
    def pod_cidr(self) -> str:
        return f"10.{self.octet}.0.0/20"

    @property
    def service_cidr(self) -> str:
        return f"10.{self.octet}.128.0/20"

    @property
    def node_ip(self) -> str:
        """The bridge's address: the node, the API server, and the pods' gateway."""
        return f"10.{self.octet}.0.1"

    @property
    def first_pod_ip(self) -> str:
        return f"10.{self.octet}.0.2"

    @property
    def api_service_ip(self) -> str:
        return f"10.{self.octet}.128.1"

    @property
    def dns_ip(self) -> str:
        return f"10.{self.octet}.128.10"

    @property
    def host_ip(self) -> str:
        """The host's end of the wire: where pods reach servers of the host."""
        return f"10.{self.octet}.255.1"

    @property
    def uplink_ip(self) -> str:
        return f"10.{self.octet}.255.2"

    @property
    def api_server(self) -> str:
        return f"https://{self.node_ip}:6443"

    @property
    def slug(self) -> str:
        """Six hex digits of the name, for interface names (at most 15 characters)."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:6]

    @property
    def bridge(self) -> str:
        return f"tp-br-{self.slug}"

    @property
    def host_wire(self) -> str:
        return f"tp-host-{self.slug}"

    @property
    def node_wire(self) -> str:
        return f"tp-node-{self.slug}"

    @property
    def netns(self) -> str:
        return f"tp-{self.name}"

    @property
    def netns_path(self) -> Path:
        return Path("/run/netns") / self.netns

    @property
    def node_name(self) -> str:
        return f"{self.name}-node"

    @property
    def cni_network(self) -> str:
        return f"tp-{self.name}"

    @property
    def cgroup(self) -> str:
        return f"tp-{self.name}"

    @property
    def egress_table(self) -> str:
        """The nft table on the host, there only with ``EGRESS=1``."""
        return f"tp_{self.slug}_egress"

    @property
    def state(self) -> Path:
        """What outlives the processes: etcd, volumes, certificates, containers."""
        return STATE_ROOT / self.name

    @property
    def run(self) -> Path:
        """What does not: pids, sockets, containerd's state. A short path, for sockets."""
        return RUN_ROOT / self.name

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def certificates(self) -> Path:
        return self.state / "pki"

    @property
    def configs(self) -> Path:
        return self.state / "etc"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    @property
    def kubelet_root(self) -> Path:
        return self.state / "kubelet"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def cache_dir(self) -> Path:
        """Under the user's cache, so that it is found without root."""
        return cache_root() / "clusters" / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.cache_dir / "kubeconfig"


def check_name(name: str) -> str:
    """Give the name back, or raise ``ValueError`` with what a name must be."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"cluster name {name!r}: use 1 to 24 of a-z, 0-9 and '-', a letter first, no '-' last"
        )
    return name


def candidates(name: str) -> Iterator[Settings]:
    """Every address range the cluster may take, the name's own first."""
    check_name(name)
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % OCTETS
    for step in range(OCTETS):
        yield Settings(name, FIRST_OCTET + (start + step) % OCTETS)


def preferred(name: str) -> Settings:
    """The settings a name gets on a machine where nothing is taken."""
    return next(candidates(name))
