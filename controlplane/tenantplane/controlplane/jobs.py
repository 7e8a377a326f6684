"""The control plane's cross-tenant jobs, and why each must look across tenants."""

from __future__ import annotations

from typing import Final

from tenantplane.core.db.jobs import system_job

START: Final = system_job("control.start", "ensures the signing key, platform key and planes")
AUTHENTICATE: Final = system_job("identity.key", "finds whose key a caller holds")
ISSUE: Final = system_job("identity.token", "finds the org or plane that a token is for")
REGISTRY: Final = system_job("registry.write", "a snapshot is made of an org and all above it")
REGISTRY_READ: Final = system_job("registry.read", "the platform operator lists all tenants")
CATALOGUE: Final = system_job("registry.catalogue", "a prompt's change reaches all that use it")
PLANES: Final = system_job("planes.write", "planes belong to the platform, their orgs are many")
PEERING: Final = system_job("planes.changes", "a plane reads the snapshots of all its orgs")
INGEST: Final = system_job("planes.ingest", "a batch carries rows of many orgs of one plane")
USAGE: Final = system_job("usage.read", "a contract's usage is that of all orgs under it")
READY: Final = system_job("control.ready", "asks the database for its time; no tenant's rows")
