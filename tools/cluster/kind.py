"""kind, where a Docker engine answers. Not tried on our own machine: it has none."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.cluster.commands import run, succeeds
from tools.cluster.errors import MissingRequirement
from tools.cluster.images import Build
from tools.cluster.settings import Settings
from tools.cluster.steps import step


def docker_answers() -> bool:
    """Whether a Docker engine is here for us."""
    return shutil.which("docker") is not None and succeeds(
        ["docker", "version", "--format", "{{.Server.Version}}"]
    )


def up(settings: Settings) -> None:
    """Create the cluster unless kind has it; kindnet enforces NetworkPolicies."""
    if shutil.which("kind") is None:
        raise MissingRequirement(
            "Docker answers, but there is no kind",
            "`go install sigs.k8s.io/kind@v0.30.0`, or choose --provider node",
        )
    if settings.name not in run(["kind", "get", "clusters"]).split():
        with step("kind create cluster"):
            run(["kind", "create", "cluster", "--name", settings.name, "--wait", "180s",
                 "--kubeconfig", str(settings.kubeconfig)])  # fmt: skip
    elif not settings.kubeconfig.exists():
        run(["kind", "export", "kubeconfig", "--name", settings.name,
             "--kubeconfig", str(settings.kubeconfig)])  # fmt: skip


def down(settings: Settings) -> None:
    with step("kind delete cluster"):
        run(["kind", "delete", "cluster", "--name", settings.name,
             "--kubeconfig", str(settings.kubeconfig)])  # fmt: skip


def load(settings: Settings, archive: Path) -> None:
    with step(f"kind load {archive.name}"):
        run(["kind", "load", "image-archive", str(archive), "--name", settings.name])


def build(build: Build) -> None:
    """Build with the engine; its own layer cache knows what has not changed."""
    build.check()
    arguments = [f"--build-arg={name}={value}" for name, value in build.arguments.items()]
    with step(f"docker build {build.tag}"):
        run(["docker", "build", *arguments, "-t", build.tag,
             "-f", str(build.dockerfile), str(build.context)])  # fmt: skip
        build.archive.parent.mkdir(parents=True, exist_ok=True)
        run(["docker", "save", "-o", str(build.archive), build.tag])
