"""Plan: every handler reads the whole object and makes the registry agree with it."""

from __future__ import annotations

from typing import Any

import kopf

from tenantplane.core.apis.common import GROUP, VERSION
from tenantplane.core.errors import NotFound, TenantplaneError
from tenantplane.operator.handlers.reconciler import (
    RESYNC_SECONDS,
    Reconciler,
    retry_delay,
    takes_over,
    writer_of,
)
from tenantplane.operator.reconcile import plans

RESOURCE = (GROUP, VERSION, "plans")


@kopf.on.resume(*RESOURCE)
@kopf.on.create(*RESOURCE)
@kopf.on.update(*RESOURCE, field="spec")
async def reconcile(body: kopf.Body, memo: Any, retry: int, **_: Any) -> None:
    again = await _reconcile(body, memo.reconciler)
    if again:
        raise kopf.TemporaryError(again, delay=retry_delay(retry))


@kopf.timer(*RESOURCE, interval=RESYNC_SECONDS, idle=RESYNC_SECONDS)
async def resync(body: kopf.Body, memo: Any, **_: Any) -> None:
    """Repairs drift, and keeps status.tenants true."""
    if not body.metadata.get("deletionTimestamp"):
        await _reconcile(body, memo.reconciler)


@kopf.on.delete(*RESOURCE)
async def delete(body: kopf.Body, memo: Any, retry: int, **_: Any) -> None:
    """A plan in use stays, and its condition says which tenants to move first."""
    reconciler: Reconciler = memo.reconciler
    try:
        await reconciler.registry.delete_plan(
            str(body.metadata["name"]),
            writer=writer_of(body),
            generation=int(body.metadata["generation"]),
        )
    except NotFound:
        return
    except TenantplaneError as error:
        if error.error_code == "other_writer":
            return  # another writer's plan: not ours to delete
        await reconciler.report(body, "Plan", "plans", plans.of_error(error))
        raise kopf.TemporaryError(str(error), delay=retry_delay(min(retry, 2))) from None


async def _reconcile(body: kopf.Body, reconciler: Reconciler) -> str | None:
    try:
        view = await reconciler.registry.put_plan(
            str(body.metadata["name"]),
            dict(body.spec),
            writer=writer_of(body),
            generation=int(body.metadata["generation"]),
            take_over=takes_over(body),
        )
        verdict = plans.of_view(view)
    except TenantplaneError as error:
        verdict = plans.of_error(error)
    await reconciler.report(body, "Plan", "plans", verdict)
    return verdict.conditions[-1].message if verdict.again else None
