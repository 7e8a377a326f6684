"""`tenantplane apply`, `get` and `delete`: the registry without Kubernetes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tenantplane.cli import manifests
from tenantplane.cli.manifests import Manifest
from tenantplane.cli.output import console, table
from tenantplane.core.apis.registry import IsolationView, TenantView
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.core.registry import RegistryClient

WRITER = "cli"


async def apply(
    registry: RegistryClient, path: Path, *, take_over: bool, wait_seconds: float
) -> None:
    """Plans and tenants in order; then waits until the data planes have applied them."""
    wanted = manifests.read(path)
    for manifest in wanted:
        changed = await _put(registry, manifest, take_over)
        word = "configured" if changed else "unchanged"
        console.print(f"{manifest.kind.lower()}.tenantplane.io/{manifest.name} {word}")
    if wait_seconds > 0:
        names = [m.name for m in wanted if m.kind == "Tenant"]
        await wait_applied(registry, names, wait_seconds)


async def wait_applied(registry: RegistryClient, names: list[str], seconds: float) -> None:
    """Raises DependencyUnavailable that names the tenants which no data plane has applied."""
    deadline = time.monotonic() + seconds
    while True:
        views = {view.org_id: view for view in await registry.tenants()}
        waiting = [name for name in names if not _is_applied(views.get(name))]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise DependencyUnavailable(
                f"No data plane has applied {', '.join(waiting)} within {seconds:g} s.",
                hint="See `tenantplane get planes`.",
            )
        await asyncio.sleep(0.1)


async def _put(registry: RegistryClient, manifest: Manifest, take_over: bool) -> bool:
    if manifest.kind == "Plan":
        plan = await registry.put_plan(
            manifest.name, manifest.spec, writer=WRITER, take_over=take_over
        )
        return plan.changed
    tenant = await registry.put_tenant(
        manifest.name, manifest.spec, writer=WRITER, take_over=take_over
    )
    return tenant.changed


def _is_applied(view: TenantView | None) -> bool:
    return view is not None and view.applied


async def get_tenants(registry: RegistryClient) -> None:
    table(
        ("name", "plan", "isolation", "plane", "status", "applied", "version", "writer"),
        [
            (
                t.org_id,
                t.spec.plan,
                t.spec.isolation,
                t.plane,
                t.status,
                t.applied,
                t.version,
                t.writer,
            )
            for t in await registry.tenants()
        ],
    )


async def get_plans(registry: RegistryClient) -> None:
    table(
        ("name", "tenants", "tools", "models", "data sources", "version", "writer"),
        [
            (
                p.name,
                p.tenants,
                ",".join(p.spec.entitlements.tools),
                ",".join(p.spec.entitlements.models),
                ",".join(p.spec.entitlements.data_sources),
                p.version,
                p.writer,
            )
            for p in await registry.plans()
        ],
    )


async def get_planes(registry: RegistryClient) -> None:
    table(
        ("name", "region", "kind", "endpoint", "enrolled", "replicas", "orgs", "isolation"),
        [
            (
                p.name,
                p.region,
                p.kind,
                p.endpoint,
                p.enrolled,
                p.replicas,
                p.orgs,
                isolation_word(p.isolation),
            )
            for p in await registry.planes()
        ],
    )


def isolation_word(report: IsolationView | None) -> str:
    """What a plane's last check of its live database comes to."""
    if report is None:
        return "not reported yet"
    if report.refusals:
        return f"{report.refusals} refused"
    return "stale" if report.is_stale else "verified"


async def delete(registry: RegistryClient, kind: str, name: str, policy: str) -> None:
    if kind == "plan":
        await registry.delete_plan(name, writer=WRITER)
    else:
        await registry.delete_tenant(name, policy=policy, writer=WRITER)
    console.print(f"{kind}.tenantplane.io/{name} deleted")
