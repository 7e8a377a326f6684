"""Planes: registered by the platform, enrolled by themselves, told what changed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import PlaneDep, ServicesDep, enrolled, require_platform
from tenantplane.controlplane.listings import Listing
from tenantplane.controlplane.planes.stream import EventStream, StreamTimes
from tenantplane.controlplane.services import Services
from tenantplane.core.apis.common import NAME_PATTERN
from tenantplane.core.apis.planes import Changes, Enrolled, EnrollRequest, IsolationReport
from tenantplane.core.apis.registry import PlaneCreated, PlaneRequest, PlaneView

router = APIRouter(prefix="/v1/planes")

PlaneName = Annotated[str, Path(pattern=NAME_PATTERN)]
_MAX_CURSOR = 2**63 - 1


@router.put("/{name}", dependencies=[Depends(require_platform)])
async def put_plane(
    services: ServicesDep, name: PlaneName, request: PlaneRequest, response: Response
) -> PlaneCreated:
    """Registers a plane or moves its endpoint. Each call answers a fresh enrolment token, and
    ends those that were not used; tenants that wait for a plane in its region are placed."""
    async with services.database.system_tx(jobs.PLANES) as cursor:
        created = await services.planes.create(cursor, name, request)
        await services.registry.place_waiting(cursor, created.region)
    response.headers["cache-control"] = "no-store"
    return created


@router.get("", dependencies=[Depends(require_platform)])
async def list_planes(services: ServicesDep) -> Listing[PlaneView]:
    async with services.database.system_tx(jobs.PLANES) as cursor:
        return Listing[PlaneView](items=tuple(await services.planes.views(cursor)))


@router.post("/{name}/enroll")
async def enroll(services: ServicesDep, name: PlaneName, request: EnrollRequest) -> Enrolled:
    """The token is what authenticates; it is burnt for the key that comes with it."""
    async with services.database.system_tx(jobs.PLANES) as cursor:
        plane = await services.planes.enrol(cursor, name, request)
    return Enrolled(
        plane=plane.name,
        region=plane.region,
        issuer=services.identity.issuer,
        jwks=services.identity.keys.to_jwks(),
    )


@router.get("/self/changes")
async def changes(
    services: ServicesDep,
    claims: PlaneDep,
    replica: Annotated[str, Query(min_length=1, max_length=100)],
    after: Annotated[int, Query(ge=0, le=_MAX_CURSOR)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> Changes:
    """Snapshots changed at or after the cursor. Asking after it says that all before is applied.

    A page may hold more than `limit`: it never ends inside a transaction.
    """
    async with services.database.system_tx(jobs.PEERING) as cursor:
        plane = await enrolled(services, cursor, claims)
        sequence = await services.planes.acknowledge(cursor, plane.name, replica, after)
    async with services.database.system_tx(jobs.PEERING) as cursor:
        page = await services.planes.changes(cursor, plane.name, after, limit)
    return Changes(
        cursor=page.cursor,
        beacon=services.planes.beacon(plane.name, sequence, page.versions),
        snapshots=page.snapshots,
        more=page.more,
    )


@router.delete("/self/replicas/{replica}", status_code=204)
async def dismiss(
    services: ServicesDep,
    claims: PlaneDep,
    replica: Annotated[str, Path(min_length=1, max_length=100)],
) -> None:
    """A replica's goodbye. One that is gone already is no error."""
    async with services.database.system_tx(jobs.PEERING) as cursor:
        plane = await enrolled(services, cursor, claims)
        await services.planes.dismiss(cursor, plane.name, replica)


@router.put("/self/isolation", status_code=204)
async def report_isolation(
    services: ServicesDep, claims: PlaneDep, report: IsolationReport
) -> None:
    """What the plane found in its own live database; becomes the condition IsolationVerified."""
    async with services.database.system_tx(jobs.PEERING) as cursor:
        plane = await enrolled(services, cursor, claims)
        await services.planes.report_isolation(cursor, plane.name, report)


@router.get("/self/stream", response_class=EventStream, status_code=200)
async def stream(services: ServicesDep, claims: PlaneDep) -> EventStream:
    """Server-sent events `changed` and `beacon`; ends with the token that opened it."""
    async with services.database.system_tx(jobs.PEERING) as cursor:
        plane = await enrolled(services, cursor, claims)
    settings = services.settings

    async def beacon() -> str:
        return await _beacon(services, plane.name)

    return EventStream(
        services.feed,
        plane.name,
        beacon,
        StreamTimes(
            life=max(0.0, claims.exp - services.database.clock.unix()),
            beacon_interval=settings.beacon_interval_seconds,
            heartbeat_interval=settings.heartbeat_interval_seconds,
        ),
    )


async def _beacon(services: Services, plane: str) -> str:
    async with services.database.system_tx(jobs.PEERING) as cursor:
        sequence = await services.planes.next_beacon(cursor, plane)
    async with services.database.system_tx(jobs.PEERING) as cursor:
        versions = await services.planes.versions(cursor, plane)
    return services.planes.beacon(plane, sequence, versions)
