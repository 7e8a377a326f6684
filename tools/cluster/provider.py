"""Which cluster: one that the user has, kind, or the bare node; one face for all three.

The choice is made at the first ``up`` and recorded, so that every later command of
that name goes to the same place.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.cluster import binaries, containerd, images, kind, node, requirements, residue
from tools.cluster.commands import locked, run, write
from tools.cluster.errors import ClusterError, CommandFailed, NotSupported
from tools.cluster.settings import RUN_ROOT, cache_root
from tools.cluster.steps import say, step

KUBECONFIG, KIND, NODE = "kubeconfig", "kind", "node"


@dataclass(frozen=True)
class Choice:
    """What a cluster's name stands for."""

    provider: str
    kubeconfig: str


def up(name: str, kubeconfig: Path | None, provider: str | None, install: bool) -> Choice:
    """Bring the cluster up, or find it up; its choice is recorded from then on."""
    existing = recorded(name)
    wanted = KUBECONFIG if kubeconfig else provider
    if existing and wanted not in (None, existing.provider):
        raise ClusterError(f"cluster {name} is a {existing.provider} one: take it down first")
    chosen = wanted or (existing.provider if existing else None)
    if chosen is None:
        chosen = KIND if kind.docker_answers() else NODE
    if chosen == KUBECONFIG:
        choice = _use_existing(kubeconfig or Path(existing.kubeconfig if existing else ""))
    elif chosen == KIND:
        settings = node.settings_of(name)
        settings.cache_dir.mkdir(parents=True, exist_ok=True)
        kind.up(settings)
        choice = Choice(KIND, str(settings.kubeconfig))
    else:
        choice = _node_up(name, install)
    write(_record(name), json.dumps(asdict(choice)))
    return choice


def down(name: str) -> None:
    """Leave nothing behind but the cache; fine when there is nothing."""
    choice = recorded(name)
    if choice and choice.provider == KIND:
        kind.down(node.settings_of(name))
    elif choice and choice.provider == KUBECONFIG:
        say(f"{name}: forgotten; the cluster of {choice.kubeconfig} itself is left as it is")
    elif choice or name in node.known():
        requirements.require_linux_root()
        with _only_one(name):
            node.Node(node.settings_of(name)).down()
        residue.remove_if_empty(RUN_ROOT)
    shutil.rmtree(_record(name).parent, ignore_errors=True)


def load(name: str, archive: Path) -> None:
    """Put an image into the cluster; skipped when it has that very image."""
    choice = need(name)
    if choice.provider == KUBECONFIG:
        raise NotSupported(
            f"load: {choice.kubeconfig} is a cluster of your own; push {archive} to its registry"
        )
    if choice.provider == KIND:
        kind.load(node.settings_of(name), archive)
        return
    requirements.require_linux_root()
    with step(f"importing {archive.name}"):
        references, imported = containerd.load(node.settings_of(name), archive)
    word = "imported" if imported else "there already"
    for reference in references:
        say(f"{reference}: {word}")


def build_image(build: images.Build, install: bool) -> bool:
    """Build with Docker where it answers, else with buildah; False when nothing had changed."""
    if kind.docker_answers():
        kind.build(build)
        return True
    requirements.require_linux_root()
    requirements.require_programs(requirements.IMAGE_PROGRAMS, install)
    return images.build_with_buildah(build)


def kubectl(name: str) -> list[str]:
    """The command line that a kubectl call to this cluster begins with."""
    choice = need(name)
    own = choice.provider == NODE or shutil.which("kubectl") is None
    program = [str(binaries.ensure("kube")), "kubectl"] if own else ["kubectl"]
    return [*_own_cache(name), *program, f"--kubeconfig={choice.kubeconfig}"]


def helm(name: str) -> list[str]:
    """The command line that a helm call to this cluster begins with."""
    program = [str(binaries.ensure("helm")), f"--kubeconfig={need(name).kubeconfig}"]
    return [*_own_cache(name), *program]


def status(name: str) -> list[str]:
    """Lines that say what there is and how to reach it."""
    choice = recorded(name)
    if choice is None and name not in node.known():
        return [f"{name}: down"]
    provider = choice.provider if choice else f"{NODE}, half up: run `up` or `down`"
    lines = [f"{name}: {provider}"]
    if choice:
        lines.append(f"kubeconfig   {choice.kubeconfig}")
    if name in node.known():
        settings = node.known()[name]
        lines += [
            f"API server   {settings.api_server}",
            f"node         {settings.node_ip} (NodePorts), network namespace {settings.netns}",
            f"pods         {settings.pod_cidr}, reached from this machine at their own address",
            f"Services     {settings.service_cidr}, likewise; DNS at {settings.dns_ip}",
            f"this machine {settings.host_ip}, as pods see it",
            f"logs         {settings.logs}",
        ]
        for daemon, pid in node.Node(settings).processes().items():
            lines.append(f"  {daemon:24} {f'pid {pid}' if pid else 'not running'}")
    return lines


def names() -> list[str]:
    """Every cluster that is recorded or has left something on this machine."""
    records = (cache_root() / "clusters").glob("*/provider.json")
    return sorted({record.parent.name for record in records} | set(node.known()))


def recorded(name: str) -> Choice | None:
    try:
        return Choice(**json.loads(_record(name).read_text()))
    except FileNotFoundError:
        return None


def need(name: str) -> Choice:
    """The choice of a cluster that must be there."""
    choice = recorded(name)
    if choice is None:
        raise ClusterError(f"cluster {name} is not up: `python -m tools.cluster up --name {name}`")
    return choice


def _node_up(name: str, install: bool) -> Choice:
    node.require(install)
    node.build_programs()  # before anything is made that a failure would leave behind
    with _only_one(name):
        settings = node.claim_settings(name)
        node.Node(settings).up(egress=os.environ.get("EGRESS") == "1")
    return Choice(NODE, str(settings.kubeconfig))


def _use_existing(kubeconfig: Path) -> Choice:
    path = kubeconfig.expanduser().resolve()
    if not path.is_file():
        raise ClusterError(f"no kubeconfig at {path}")
    program = "kubectl" if shutil.which("kubectl") else str(binaries.ensure("kube"))
    words = ["kubectl"] if program != "kubectl" else []
    asked = [program, *words, f"--kubeconfig={path}", "get", "--raw", "/readyz"]
    try:
        run([*asked, "--request-timeout=10s"])
    except CommandFailed as failed:
        raise ClusterError(f"the cluster of {path} does not answer: {failed}") from failed
    return Choice(KUBECONFIG, str(path))


def _own_cache(name: str) -> list[str]:
    """What kubectl and Helm remember of an API server goes with the cluster."""
    return ["env", f"KUBECACHEDIR={_record(name).parent / 'discovery'}"]


def _only_one(name: str) -> AbstractContextManager[None]:
    """Two commands on one cluster wait for each other."""
    return locked(RUN_ROOT / f".{name}.lock")


def _record(name: str) -> Path:
    return cache_root() / "clusters" / name / "provider.json"
