"""The tenant's own API under /tp/v1/: everything that is not OpenAI's and not on the hot path."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI

from tenantplane.dataplane.api import problems

PREFIX = "/tp/v1/"


def tenant_api(routers: Iterable[APIRouter]) -> FastAPI:
    """Without documentation routes: they would be served to whoever passes the gate. No redirects:
    the scheme that a client used is not known behind a proxy."""
    app = FastAPI(
        title="tenantplane data plane",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    for router in routers:
        app.include_router(router)
    return app
