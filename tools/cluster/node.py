"""The bare single node: bring it up from any state, take it down without a trace.

``up`` is one pass over the parts in the order in which they need each other. Each
part is left alone if it stands as it should, so the same pass starts a cluster,
repairs one, and finds nothing to do. If the network had to be made anew, or
containerd has died, everything is stopped first and pods are started afresh:
that is a machine's reboot, which Kubernetes knows well. etcd, volumes, certificates
and images live on disk and outlast it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

from tools.cluster import (
    binaries,
    cgroups,
    components,
    containerd,
    kernel,
    mounts,
    network,
    requirements,
    residue,
    system,
)
from tools.cluster.api import Api
from tools.cluster.certificates import Certificates
from tools.cluster.commands import locked, run, write
from tools.cluster.errors import ClusterError
from tools.cluster.oci_archive import write_program_image
from tools.cluster.processes import Processes
from tools.cluster.settings import RUN_ROOT, STATE_ROOT, Settings, cache_root, preferred
from tools.cluster.steps import step

REPOSITORY = Path(__file__).resolve().parents[2]

STOP_ORDER = (
    ("policy-agent", "storage", "kubelet", "kube-proxy", "kube-scheduler"),
    ("kube-controller-manager", "containerd"),
    ("kube-apiserver",),
    ("etcd",),
)
"""Each after what depends on it, so that nothing logs the loss of the next."""


class Node:
    """One cluster's bare node."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._certs = Certificates(settings)
        self._processes = Processes(settings.run, settings.logs, settings.netns_path)

    def up(self, egress: bool) -> None:
        """Bring every part to where it should be; quick when all stands."""
        programs = build_programs()
        kube = programs["kube"]
        settings = self.settings
        for folder in (settings.state, settings.run, settings.logs, settings.volumes):
            folder.mkdir(parents=True, exist_ok=True)
        kernel.remember()
        self._certs.ensure()
        self._ensure_network(egress)
        self._write_configs(egress)
        cgroups.ensure(settings.cgroup)
        self._ensure_control_plane(kube)
        api = Api(settings.kubeconfig)
        with step("API server"):
            self._wait("kube-apiserver", 60, api.answers)
        self._ensure_workers(kube)
        images = self._load_own_images(programs)
        kubelet_started = self._ensure_kubelet(kube)
        self._apply(kube, system.manifests(settings, images["coredns"], egress))
        with step("node"):
            since = kubelet_started or 0.0
            self._wait("kubelet", 90, lambda: system.node_ready(api, settings, since))
        with step("DNS"):
            self._wait("kubelet", 120, lambda: system.dns_answers(settings))

    def down(self) -> None:
        """Remove processes, pods, network, mounts, cgroups and folders."""
        with step(f"taking {self.settings.name} down"):
            self._stop_all()
            containerd.forget_pods(self.settings)
            cgroups.remove(self.settings.cgroup)
            network.remove(self.settings)
            mounts.unmount_below(self.settings.state, self.settings.run)
            for folder in (self.settings.state, self.settings.run, self.settings.cache_dir):
                _remove_tree(folder)
            if not known():
                kernel.restore()
                residue.remove_empty_folders()
                residue.remove_if_empty(STATE_ROOT)

    def processes(self) -> dict[str, int | None]:
        """Every recorded daemon, with its pid while it lives."""
        names = sorted(name for group in STOP_ORDER for name in group)
        return {name: self._processes.pid(name) for name in names}

    def _ensure_network(self, egress: bool) -> None:
        made = network.ensure(self.settings)
        if made or not self._processes.alive("containerd"):
            with step("stopping what is left of the last run"):
                self._stop_all()
                containerd.forget_pods(self.settings)
        network.fence(self.settings, egress)

    def _write_configs(self, egress: bool) -> None:
        # A pod with `dnsPolicy: Default` sees this; offline it has nobody to ask.
        host = Path("/etc/resolv.conf").read_text() if egress else "options ndots:1\n"
        plan = components.write_plan(
            self.settings,
            self._certs,
            containerd.config(self.settings),
            network.cni_config(self.settings),
            host,
        )
        for path, text in plan.items():
            write(path, text)

    def _ensure_control_plane(self, kube: Path) -> None:
        settings, certs = self.settings, self._certs
        self._ensure(kube, components.etcd(settings, certs), "etcd")
        self._ensure(kube, components.apiserver(settings, certs), "apiserver")

    def _ensure_workers(self, kube: Path) -> None:
        settings, certs, processes = self.settings, self._certs, self._processes
        toml = settings.configs / "containerd.toml"
        processes.ensure("containerd", ["containerd", "--config", str(toml)], _content(toml))
        self._ensure(kube, components.controller_manager(settings, certs), "controller-manager")
        self._ensure(kube, components.scheduler(certs), "scheduler")
        self._ensure(kube, components.proxy(settings), "proxy", settings.configs / "proxy.json")
        agent = str(certs.kubeconfig("agent"))
        self._ensure_agent("policy-agent", "policy_agent", agent)
        self._ensure_agent("storage", "storage", agent, str(settings.volumes), settings.node_name)
        with step("containerd"):
            self._wait("containerd", 60, lambda: containerd.answers(settings))

    def _ensure_kubelet(self, kube: Path) -> float | None:
        """When the kubelet was started just now; None when it runs already."""
        command = components.kubelet(self.settings, self._certs)
        now = time.time()
        config = self.settings.configs / "kubelet.json"
        return now if self._ensure(kube, command, "kubelet", config) else None

    def _ensure(self, kube: Path, command: list[str], cert: str, *configs: Path) -> bool:
        own = [path for path in (self._certs.cert(cert), *configs) if path.exists()]
        inputs = "".join(_content(path) for path in own)
        return self._processes.ensure(command[0], [str(kube), *command], inputs)

    def _ensure_agent(self, name: str, module: str, *arguments: str) -> None:
        sources = "".join(_content(path) for path in sorted(Path(__file__).parent.glob("*.py")))
        command = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-m"]
        self._processes.ensure(name, [*command, f"tools.cluster.{module}", *arguments], sources)

    def _load_own_images(self, programs: dict[str, Path]) -> dict[str, str]:
        """pause and CoreDNS: each its static program and nothing else."""
        references = {"pause": containerd.PAUSE_IMAGE}
        label = programs["coredns"].parent.name.removeprefix("coredns-")
        references["coredns"] = f"{system.COREDNS_IMAGE}:{label}"
        for name, reference in references.items():
            archive = programs[name].with_suffix(".oci.tar")
            with locked(cache_root() / "bin" / f".{name}.lock"):
                if not archive.exists():
                    write_program_image(archive, reference, programs[name], name)
            containerd.load(self.settings, archive)
        return references

    def _apply(self, kube: Path, manifests: str) -> None:
        kubectl = [str(kube), "kubectl", f"--kubeconfig={self.settings.kubeconfig}"]
        server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"]
        run([*kubectl, *server_side], stdin=manifests)

    def _wait(self, process: str, seconds: float, ready: system.Check) -> None:
        def check() -> bool:
            self._processes.check(process)
            return ready()

        system.wait_until(process, seconds, check)

    def _stop_all(self) -> None:
        for group in STOP_ORDER:
            self._processes.stop(list(group))


def known() -> dict[str, Settings]:
    """The bare nodes of this machine, up or not, by name."""
    found = {}
    for record in sorted(STATE_ROOT.glob("*/cluster.json")):
        fields = json.loads(record.read_text())
        found[fields["name"]] = Settings(fields["name"], fields["octet"])
    return found


def settings_of(name: str) -> Settings:
    """The settings a cluster has, or would prefer."""
    return known().get(name) or preferred(name)


def claim_settings(name: str) -> Settings:
    """The settings of a cluster, chosen now if it is new, and kept until ``down``."""
    with locked(RUN_ROOT / ".addresses.lock"):
        clusters = known()
        if name in clusters:
            return clusters[name]
        settings = network.choose_settings(name, {one.octet for one in clusters.values()})
        record = {"name": name, "octet": settings.octet}
        write(settings.state / "cluster.json", json.dumps(record))
        return settings


def build_programs() -> dict[str, Path]:
    """Every Go program that a cluster needs; minutes the first time."""
    return {name: binaries.ensure(name) for name in ("kube", "helm", "coredns", "pause")}


def require(install: bool) -> None:
    """Raise ``MissingRequirement`` with one line unless this machine can carry the node."""
    requirements.require_linux_root()
    requirements.require_programs(requirements.NODE_PROGRAMS, install)
    requirements.require_kernel()


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _remove_tree(folder: Path) -> None:
    left = mounts.mounts_below(folder)
    if left:  # never delete through a mount: it may be somebody's data
        raise ClusterError(f"{left[0]} is still mounted")
    if folder.exists():
        shutil.rmtree(folder)
