"""`make up`: the main job on a real Kubernetes API.

Gets a cluster (tools/cluster), builds the image, installs both charts with Helm, applies
examples/first/ with kubectl, waits until both tenants are Ready, and asks the demo's questions
through the cluster. Run twice, the second run finds all of it there.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path

from tenantplane.cli.apply import wait_applied
from tenantplane.cli.local.conversation import Tenant
from tenantplane.cli.local.demo import QUESTIONS, converse
from tenantplane.cli.output import Steps, console, fail
from tenantplane.core.apis.registry import ApiKeyRequest
from tenantplane.core.errors import TenantplaneError
from tools.cluster.errors import ClusterError
from tools.cluster.provider import KUBECONFIG, Choice
from tools.cluster.steps import shown_by
from tools.release import NAMESPACE, RELEASE, Release

STEPS = 7


async def run(release: Release, examples: Path, kubeconfig: Path | None, image: str | None) -> int:
    """Returns the exit code: 0 where both tenants answer and what must be refused is refused."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        with Steps(STEPS) as steps:
            with shown_by(steps.detail) if steps.live else nullcontext():
                _bring_up(release, steps, examples, kubeconfig, image)
            with steps.step("an API key for each tenant"):
                tenants = await _keyed(release, stack)
        held = await converse(*tenants)
    console.print()
    console.print(release.kubectl("get", "tenants"), markup=False)
    if not held:
        return fail("not all of it held: see the lines marked ✗")
    _invite(release, time.monotonic() - started)
    return 0


def _bring_up(
    release: Release, steps: Steps, examples: Path, kubeconfig: Path | None, image: str | None
) -> None:
    with steps.step(f"cluster {release.name}"):
        choice = release.cluster_up(kubeconfig)
    with steps.step("image"):
        tag = image or _built(release, choice)
    with steps.step("Helm charts"):
        release.install(tag)
    with steps.step("rollout"):
        release.wait_for_rollout()
    with steps.step(f"kubectl apply -f {examples}"):
        release.kubectl("apply", "-f", str(examples))
    with steps.step("tenants Ready"):
        release.kubectl("wait", "-f", str(examples), "--for=condition=Ready", "--timeout=60s")


def _built(release: Release, choice: Choice) -> str:
    if choice.provider == KUBECONFIG:
        raise ClusterError(
            "a cluster of your own pulls from a registry: build the Dockerfile over the context of "
            "`tools/image.sh`, push it there, and name it with --image REPOSITORY:TAG"
        )
    return release.build_and_load()


async def _keyed(release: Release, stack: AsyncExitStack) -> list[Tenant]:
    """Through port-forwards, which work on any cluster; closed with `stack`."""
    data_plane = stack.enter_context(release.port_forward("dataplane"))
    async with release.registry() as registry:
        request = ApiKeyRequest(name="up", user_id="ada", expires_in_seconds=3600)
        made = {org: await registry.create_key(org, request) for org in QUESTIONS}
        await wait_applied(registry, list(made), 15)
    tenants = [Tenant(org, data_plane, key.secret) for org, key in made.items()]
    return [await stack.enter_async_context(tenant) for tenant in tenants]


def _invite(release: Release, seconds: float) -> None:
    console.print(f"Up in {seconds:.0f} s. Now try:")
    for command in (
        f"export KUBECONFIG={release.kubeconfig()}",
        "kubectl explain tenant.spec.limits",
        "kubectl patch plan starter --type merge "
        '-p \'{"spec": {"entitlements": {"tools": ["clock", "notes"]}}}\'',
        f"kubectl -n {NAMESPACE} logs deployment/{RELEASE}-dataplane",
    ):
        console.print(f"  {command}", markup=False)
    console.print(f"`make down NAME={release.name}` takes it away.")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make up",
        description="The main job on a real Kubernetes API.",
        epilog="examples: make up · make up NAME=second · "
        "make up ARGS='--kubeconfig ~/.kube/config --image registry.example/tenantplane:1'",
    )
    parser.add_argument("--name", default="tenantplane", help="the cluster's name")
    parser.add_argument("--examples", type=Path, default=Path("examples/first"))
    parser.add_argument("--kubeconfig", type=Path, help="a cluster of yours")
    parser.add_argument("--image", help="an image that this cluster can pull")
    options = parser.parse_args()
    release = Release(options.name)
    try:
        return asyncio.run(run(release, options.examples, options.kubeconfig, options.image))
    except (ClusterError, TenantplaneError, subprocess.CalledProcessError) as error:
        return fail(str(error))


if __name__ == "__main__":
    sys.exit(main())
