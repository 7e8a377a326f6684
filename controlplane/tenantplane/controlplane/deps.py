"""What routes ask for: the process's services, and who is calling."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from tenantplane.controlplane import jobs
from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes.schemas import PlaneRow
from tenantplane.controlplane.registry.decisions import Writer, writer_from_headers
from tenantplane.controlplane.services import Services
from tenantplane.core.apis.registry import GENERATION_HEADER, TAKE_OVER_HEADER, WRITER_HEADER
from tenantplane.core.errors import Unauthenticated
from tenantplane.core.identity.claims import PlaneClaims


def services_of(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


def bearer_of(request: Request) -> str:
    """The one bearer token of a request (RFC 6750 section 2.1). Raises Unauthenticated."""
    values = request.headers.getlist("authorization")
    if len(values) != 1:
        raise Unauthenticated(
            "The request has no single Authorization header.",
            hint="Send 'Authorization: Bearer <key or token>' once.",
        )
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("The Authorization header is not 'Bearer <key or token>'.")
    return token.strip()


BearerDep = Annotated[str, Depends(bearer_of)]


async def require_platform(services: ServicesDep, bearer: BearerDep) -> str:
    """The platform operator, named as records name him. Raises Unauthenticated, Forbidden."""
    services.identity.refuse_other_bearer(bearer)
    async with services.database.system_tx(jobs.AUTHENTICATE) as cursor:
        return f"platform:{await services.identity.require_platform_key(cursor, bearer)}"


ActorDep = Annotated[str, Depends(require_platform)]


def plane_of(services: ServicesDep, bearer: BearerDep) -> PlaneClaims:
    """A data plane. Raises Unauthenticated; a key where a token is due is one of those."""
    return services.identity.require_plane(bearer)


PlaneDep = Annotated[PlaneClaims, Depends(plane_of)]


def writer_of(request: Request) -> Writer:
    """Raises InvalidInput (`writer_required`)."""
    headers = request.headers
    return writer_from_headers(
        headers.get(WRITER_HEADER),
        headers.get(GENERATION_HEADER),
        headers.get(TAKE_OVER_HEADER),
    )


WriterDep = Annotated[Writer, Depends(writer_of)]


async def enrolled(services: Services, cursor: Cursor, claims: PlaneClaims) -> PlaneRow:
    """The plane as it is now: a token from before its last enrolment is of a key that was given
    up, perhaps because it was stolen (F62). Raises Unauthenticated."""
    plane = await services.planes.read(cursor, claims.plane)
    # The token's time is in whole seconds.
    if (
        plane is None
        or plane.enrolled_at is None
        or claims.iat < int(plane.enrolled_at.timestamp())
    ):
        raise Unauthenticated(
            f"Plane {claims.plane!r} has enrolled anew since this token was issued.",
            hint="Ask for a new token with the plane's present key.",
        )
    return plane
