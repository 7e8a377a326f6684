"""The catalogue over HTTP. Names have slashes in them, so they stand last in a path."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import ActorDep, ServicesDep, require_platform
from tenantplane.controlplane.listings import Listing
from tenantplane.core.apis.catalogue import CatalogueRequest, CatalogueView, Kind
from tenantplane.core.apis.common import NAME_PATTERN

router = APIRouter(prefix="/v1/catalogue", dependencies=[Depends(require_platform)])

EntryName = Annotated[str, Path(pattern=NAME_PATTERN)]


@router.get("")
async def list_entries(services: ServicesDep, kind: Kind | None = None) -> Listing[CatalogueView]:
    async with services.database.system_tx(jobs.CATALOGUE) as cursor:
        entries = await services.catalogue.entries(cursor, kind)
    return Listing[CatalogueView](items=tuple(entries))


@router.get("/{kind}/{name:path}")
async def get_entry(services: ServicesDep, kind: Kind, name: EntryName) -> CatalogueView:
    async with services.database.system_tx(jobs.CATALOGUE) as cursor:
        return await services.catalogue.entry(cursor, kind, name)


@router.put("/{kind}/{name:path}")
async def put_entry(
    services: ServicesDep,
    actor: ActorDep,
    kind: Kind,
    name: EntryName,
    request: CatalogueRequest,
) -> CatalogueView:
    """A new version where it says something new; tenants that use a prompt have it at once."""
    async with services.database.system_tx(jobs.CATALOGUE) as cursor:
        return await services.catalogue.put(cursor, kind, name, request, actor)


@router.delete("/{kind}/{name:path}")
async def withdraw_entry(
    services: ServicesDep,
    actor: ActorDep,
    kind: Kind,
    name: EntryName,
    version: Annotated[int | None, Query(ge=1)] = None,
) -> CatalogueView:
    """Takes one version out of force, or all."""
    async with services.database.system_tx(jobs.CATALOGUE) as cursor:
        return await services.catalogue.withdraw(cursor, kind, name, version, actor)
