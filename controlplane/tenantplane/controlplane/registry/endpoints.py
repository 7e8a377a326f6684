"""The registry API: the very documents that `kubectl apply` takes, over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import ServicesDep, WriterDep, require_platform
from tenantplane.controlplane.listings import Listing
from tenantplane.controlplane.registry.api_keys import created
from tenantplane.controlplane.registry.decisions import DeletionPolicy
from tenantplane.core.apis.common import NAME_PATTERN
from tenantplane.core.apis.plan import PlanSpec
from tenantplane.core.apis.registry import (
    ApiKeyCreated,
    ApiKeyRequest,
    ApiKeyView,
    PlanView,
    TenantView,
)
from tenantplane.core.apis.tenant import TenantSpec
from tenantplane.core.ids import ORG_ID_PATTERN

router = APIRouter(prefix="/v1", dependencies=[Depends(require_platform)])

PlanName = Annotated[str, Path(pattern=NAME_PATTERN)]
OrgPath = Annotated[str, Path(pattern=ORG_ID_PATTERN)]
# All of a mid-sized platform at once; beyond it, clients go on after `next`.
PAGE = 10_000


@router.put("/plans/{name}")
async def put_plan(
    services: ServicesDep, writer: WriterDep, name: PlanName, spec: PlanSpec
) -> PlanView:
    """Creates or changes a plan; its tenants' snapshots are signed anew at once."""
    async with services.database.system_tx(jobs.REGISTRY) as cursor:
        return await services.registry.apply_plan(cursor, name, spec, writer)


@router.get("/plans")
async def list_plans(services: ServicesDep) -> Listing[PlanView]:
    async with services.database.system_tx(jobs.REGISTRY_READ) as cursor:
        return Listing[PlanView](items=tuple(await services.registry.plans(cursor)))


@router.get("/plans/{name}")
async def get_plan(services: ServicesDep, name: PlanName) -> PlanView:
    async with services.database.system_tx(jobs.REGISTRY_READ) as cursor:
        return await services.registry.plan(cursor, name)


@router.delete("/plans/{name}", status_code=204)
async def delete_plan(services: ServicesDep, writer: WriterDep, name: PlanName) -> None:
    """Refused while tenants have the plan."""
    async with services.database.system_tx(jobs.REGISTRY) as cursor:
        await services.registry.delete_plan(cursor, name, writer)


@router.put("/tenants/{org_id}")
async def put_tenant(
    services: ServicesDep, writer: WriterDep, org_id: OrgPath, spec: TenantSpec
) -> TenantView:
    """Registers or changes a tenant; idempotent."""
    async with services.database.system_tx(jobs.REGISTRY) as cursor:
        return await services.registry.apply_tenant(cursor, org_id, spec, writer)


@router.get("/tenants")
async def list_tenants(
    services: ServicesDep,
    after: Annotated[str, Query(max_length=40)] = "",
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> Listing[TenantView]:
    """By name, those behind `after`."""
    async with services.database.system_tx(jobs.REGISTRY_READ) as cursor:
        views = tuple(await services.registry.tenants(cursor, after, limit))
    following = views[-1].org_id if len(views) == limit else None
    return Listing[TenantView](items=views, next=following)


@router.get("/tenants/{org_id}")
async def get_tenant(services: ServicesDep, org_id: OrgPath) -> TenantView:
    async with services.database.tenant_tx(org_id) as cursor:
        return await services.registry.tenant(cursor, org_id)


@router.delete("/tenants/{org_id}")
async def delete_tenant(
    services: ServicesDep,
    writer: WriterDep,
    org_id: OrgPath,
    policy: DeletionPolicy | None = None,
) -> TenantView:
    """Retain keeps the rows for re-adoption, Purge ends the name for ever."""
    async with services.database.system_tx(jobs.REGISTRY) as cursor:
        return await services.registry.delete_tenant(cursor, org_id, policy, writer)


@router.post("/tenants/{org_id}/keys", status_code=201)
async def create_key(
    services: ServicesDep, org_id: OrgPath, request: ApiKeyRequest, response: Response
) -> ApiKeyCreated:
    """The only answer that carries the secret."""
    async with services.database.system_tx(jobs.REGISTRY) as cursor:
        view, secret = await services.api_keys.create(cursor, org_id, request)
        version = (await services.registry.tenant(cursor, org_id)).version
    response.headers["cache-control"] = "no-store"
    return created(view, secret, version)


@router.get("/tenants/{org_id}/keys")
async def list_keys(services: ServicesDep, org_id: OrgPath) -> Listing[ApiKeyView]:
    async with services.database.tenant_tx(org_id) as cursor:
        await services.registry.tenant(cursor, org_id)
        keys = await services.api_keys.keys(cursor, org_id)
    return Listing[ApiKeyView](items=tuple(keys))


@router.delete("/tenants/{org_id}/keys/{key_id}")
async def revoke_key(services: ServicesDep, org_id: OrgPath, key_id: str) -> ApiKeyView:
    """Idempotent; planes drop the key with the next snapshot."""
    async with services.database.system_tx(jobs.REGISTRY) as cursor:
        return await services.api_keys.revoke(cursor, org_id, key_id)
