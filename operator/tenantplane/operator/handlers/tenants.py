"""Tenant: every handler reads the whole object and makes the registry agree with it."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf

from tenantplane.core.apis.common import GROUP, VERSION
from tenantplane.core.apis.registry import TenantView
from tenantplane.core.errors import NotFound, TenantplaneError
from tenantplane.operator.handlers.reconciler import (
    RESYNC_SECONDS,
    Reconciler,
    retry_delay,
    takes_over,
    writer_of,
)
from tenantplane.operator.reconcile import tenants

RESOURCE = (GROUP, VERSION, "tenants")
_POLL_SECONDS = 0.1


@kopf.on.resume(*RESOURCE)
@kopf.on.create(*RESOURCE)
@kopf.on.update(*RESOURCE, field="spec")
async def reconcile(body: kopf.Body, memo: Any, retry: int, **_: Any) -> None:
    again = await _reconcile(body, memo.reconciler)
    if again:
        raise kopf.TemporaryError(again, delay=retry_delay(retry))


@kopf.on.update(*RESOURCE, field="metadata.annotations")
async def annotated(body: kopf.Body, memo: Any, **_: Any) -> None:
    """Taking a tenant over is said by an annotation, which is no change of the spec."""
    if takes_over(body):
        await _reconcile(body, memo.reconciler)


@kopf.timer(*RESOURCE, interval=RESYNC_SECONDS, idle=RESYNC_SECONDS)
async def resync(body: kopf.Body, memo: Any, **_: Any) -> None:
    """Repairs drift: the registry may have lost or changed the tenant behind our back."""
    if not body.metadata.get("deletionTimestamp"):
        await _reconcile(body, memo.reconciler)


@kopf.on.delete(*RESOURCE)
async def delete(body: kopf.Body, memo: Any, retry: int, **_: Any) -> None:
    """The finalizer holds the object until the registry has let the tenant go."""
    reconciler: Reconciler = memo.reconciler
    policy = str(body.spec.get("deletionPolicy", "Retain"))
    try:
        async with reconciler.turns:
            await reconciler.registry.delete_tenant(
                str(body.metadata["name"]),
                policy=policy,
                writer=writer_of(body),
                generation=int(body.metadata["generation"]),
            )
    except NotFound:
        return
    except TenantplaneError as error:
        if error.error_code == "other_writer":
            return  # another writer's tenant: not ours to delete
        await reconciler.report(body, "Tenant", "tenants", tenants.of_error(error))
        raise kopf.TemporaryError(str(error), delay=retry_delay(retry)) from None


async def _reconcile(body: kopf.Body, reconciler: Reconciler) -> str | None:
    """Returns why to look again soon, or None."""
    try:
        async with reconciler.turns:
            view = await reconciler.registry.put_tenant(
                str(body.metadata["name"]),
                dict(body.spec),
                writer=writer_of(body),
                generation=int(body.metadata["generation"]),
                take_over=takes_over(body),
            )
            verdict = tenants.of_view(await _applied(view, reconciler))
    except TenantplaneError as error:
        verdict = tenants.of_error(error)
    await reconciler.report(body, "Tenant", "tenants", verdict)
    return verdict.conditions[-1].message if verdict.again else None


async def _applied(view: TenantView, reconciler: Reconciler) -> TenantView:
    """Waits a little for the data plane, so that the usual case is one write of the status."""
    deadline = asyncio.get_running_loop().time() + reconciler.settings.apply_wait_seconds
    while view.plane and not view.applied and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
        view = await reconciler.registry.tenant(view.org_id)
    return view
