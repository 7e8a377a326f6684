"""The charts on a cluster of tools/cluster: image, install, rollout, and ways in from this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from pydantic import SecretStr

from tenantplane.core.registry import RegistryClient
from tools.cluster import images, provider
from tools.cluster.errors import ClusterError, NotReady
from tools.cluster.provider import Choice

ROOT = Path(__file__).parent.parent
NAMESPACE = "tenantplane-system"
RELEASE = "tp"
REPOSITORY = "localhost/tenantplane"
_DEPLOYMENTS = ("controlplane", "dataplane", "operator", "model")


class Release:
    """tenantplane on the cluster `name`. Raises ClusterError with a line that says how to go on."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cluster_up(self, kubeconfig: Path | None = None) -> Choice:
        return provider.up(self.name, kubeconfig, None, install=True)

    def kubeconfig(self) -> str:
        return provider.need(self.name).kubeconfig

    def build_and_load(self) -> str:
        """Builds where something changed; returns REPOSITORY:TAG with a tag made of the content."""
        _run(["tools/image.sh"])
        stamp = (ROOT / "build/image.stamp").read_bytes() + (ROOT / "Dockerfile").read_bytes()
        image = f"{REPOSITORY}:{hashlib.sha256(stamp).hexdigest()[:12]}"
        build = images.Build(image, ROOT / "Dockerfile", ROOT / "build/image", {})
        provider.build_image(build, install=True)
        provider.load(self.name, build.archive)
        return image

    def install(self, image: str) -> None:
        """CRDs, namespace under Pod Security `restricted`, and the chart."""
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
        self.helm("upgrade", "--install", f"{RELEASE}-crds", "charts/tenantplane-crds")
        repository, _, tag = image.rpartition(":")
        self.helm(
            "upgrade",
            "--install",
            RELEASE,
            "charts/tenantplane",
            "--set",
            f"image.repository={repository},image.tag={tag}",
            "--timeout",
            "10m",
        )

    def wait_for_rollout(self) -> None:
        for component in _DEPLOYMENTS:
            target = f"deployment/{RELEASE}-{component}"
            self.kubectl("-n", NAMESPACE, "rollout", "status", target, "--timeout=300s")

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl printed. Raises ClusterError with what it said."""
        return _run([*provider.kubectl(self.name), *words], stdin)

    def helm(self, *words: str) -> str:
        return _run([*provider.helm(self.name), "--namespace", NAMESPACE, *words])

    @asynccontextmanager
    async def registry(self) -> AsyncIterator[RegistryClient]:
        """The registry API with the platform key that the chart made."""
        with self.port_forward("controlplane") as url:
            async with RegistryClient(url, self.platform_key()) as registry:
                yield registry

    def platform_key(self) -> SecretStr:
        encoded = self.kubectl(
            *("-n", NAMESPACE, "get", "secret", f"{RELEASE}-platform"),
            *("-o", "jsonpath={.data.TENANTPLANE_PLATFORM_KEY}"),
        )
        return SecretStr(base64.b64decode(encoded).decode())

    @contextmanager
    def port_forward(self, component: str) -> Iterator[str]:
        """A base URL on loopback that reaches the component's Service, until the end of the block."""
        target = f"service/{RELEASE}-{component}"
        command = [*provider.kubectl(self.name), "-n", NAMESPACE, "port-forward", target, ":80"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield f"http://127.0.0.1:{_forwarded_port(process)}"
            finally:
                process.terminate()


def _forwarded_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()  # ends with the process, too
    match = re.search(r"127\.0\.0\.1:(\d+)", line)
    if match is None:
        raise NotReady(f"kubectl port-forward said {line.strip()!r} instead of a port")
    return int(match[1])


def _run(command: list[str], stdin: str | None = None) -> str:
    done = subprocess.run(
        command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise ClusterError(
            f"`{' '.join(command[-6:])}` ended with {done.returncode}: {' | '.join(said)}"
        )
    return done.stdout
