"""Build the Go programs once, into the cache, keyed by what they are built from."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from tools.cluster.commands import locked, run
from tools.cluster.errors import MissingRequirement
from tools.cluster.settings import cache_root
from tools.cluster.steps import step

MODULES = Path(__file__).resolve().parent.parent

_MAIN_MODULE = {
    "kube": "k8s.io/kubernetes",
    "helm": "helm.sh/helm/v4",
    "coredns": "github.com/coredns/coredns",
}
"""Whose version names the build; a module of our own alone has none."""

_HOW_LONG = {"kube": "5 min", "helm": "2 min", "coredns": "1 min"}


def path(name: str) -> Path:
    """Where the build of the sources as they are now stands, or will stand."""
    sources = [MODULES / name / part for part in ("go.mod", "go.sum", "main.go")]
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in sources if part.exists()))
    version = _version(name)
    label = "-".join(part for part in (name, version, digest.hexdigest()[:10]) if part)
    return cache_root() / "bin" / label / name


def ensure(name: str) -> Path:
    """The program's path, built if it has to be."""
    target = path(name)
    if target.exists():
        return target
    with locked(cache_root() / "bin" / f".{name}.lock"):
        if not target.exists():
            _build(name, target)
    return target


def _build(name: str, target: Path) -> None:
    if shutil.which("go") is None:
        raise MissingRequirement(
            "no Go compiler", f"install Go 1.26 or later to build {name}, then run again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{name}")
    flags = "-s -w"
    if name == "kube":  # the API server refuses to guess its own version
        flags += f" -X k8s.io/component-base/version.gitVersion={_version(name)}"
    log = target.parent / "build.log"
    duration = _HOW_LONG.get(name)
    note = f" (once, about {duration} on two cores)" if duration else ""
    with step(f"building {name}{note}"):
        run(
            ["nice", "go", "build", "-trimpath", "-mod=readonly", "-ldflags", flags,
             "-o", str(draft), "."],
            env={"CGO_ENABLED": "0"}, cwd=MODULES / name, log=log, timeout_seconds=3600,
        )  # fmt: skip
    draft.replace(target)
    log.unlink()


def _version(name: str) -> str:
    module = _MAIN_MODULE.get(name)
    if module is None:
        return ""
    text = (MODULES / name / "go.mod").read_text()
    found = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"tools/{name}/go.mod does not require {module}")
    return found.group(1)
