"""The application: routes, errors and middleware, around services that are already running."""

from __future__ import annotations

from fastapi import FastAPI

from tenantplane.controlplane import health, problems
from tenantplane.controlplane.audit import endpoints as audit
from tenantplane.controlplane.identity import endpoints as identity
from tenantplane.controlplane.middleware import AccessLog, BodyLimit, IsolationGuard
from tenantplane.controlplane.planes import endpoints as planes
from tenantplane.controlplane.registry import endpoints as registry
from tenantplane.controlplane.registry.catalogue import endpoints as catalogue
from tenantplane.controlplane.registry.entitlements import endpoints as entitlements
from tenantplane.controlplane.registry.limits import endpoints as limits
from tenantplane.controlplane.services import Services
from tenantplane.controlplane.usage import endpoints as usage


def create_app(services: Services) -> FastAPI:
    """An ASGI application without a lifespan of its own: whoever opened `services` closes them."""
    # No documentation pages: they would load scripts from elsewhere. /openapi.json is there.
    app = FastAPI(title="tenantplane control plane", version="v1", docs_url=None, redoc_url=None)
    app.state.services = services
    problems.install(app)
    for domain in (identity, registry, entitlements, catalogue, limits, planes, usage, audit):
        app.include_router(domain.router)
    app.include_router(health.router)
    app.add_middleware(BodyLimit, max_bytes=services.settings.max_body_bytes)
    app.add_middleware(IsolationGuard, services=services)
    app.add_middleware(AccessLog)
    return app
