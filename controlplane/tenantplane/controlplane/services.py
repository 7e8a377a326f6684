"""Everything that endpoints need, built once at start-up from the settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tenantplane.controlplane import jobs
from tenantplane.controlplane.audit.service import Audit
from tenantplane.controlplane.identity import keys
from tenantplane.controlplane.identity.service import Identity
from tenantplane.controlplane.planes.feed import ChangeFeed
from tenantplane.controlplane.planes.service import CHANGED_CHANNEL, Planes, PlaneTimes
from tenantplane.controlplane.registry.api_keys import ApiKeys
from tenantplane.controlplane.registry.catalogue.service import Catalogue
from tenantplane.controlplane.registry.entitlements.service import Entitlements
from tenantplane.controlplane.registry.limits.service import OrgLimits
from tenantplane.controlplane.registry.service import Registry
from tenantplane.controlplane.registry.signing import Signatory
from tenantplane.controlplane.settings import ControlPlaneSettings
from tenantplane.controlplane.usage.service import Usage
from tenantplane.core.apis.registry import PlaneRequest
from tenantplane.core.db.pool import Database
from tenantplane.core.db.watch import DatabaseCatalogue, IsolationWatch
from tenantplane.core.identity.jwks import JwksCache, JwksSettings
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.core.keys.signing import SigningKey

_log = logging.getLogger(__name__)

# Before the watch over the database is begun again, should it fail.
_REST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Services:
    """One process's services."""

    settings: ControlPlaneSettings
    database: Database
    isolation: IsolationWatch
    signer: SigningKey
    feed: ChangeFeed
    identity: Identity
    planes: Planes
    registry: Registry
    api_keys: ApiKeys
    catalogue: Catalogue
    limits: OrgLimits
    entitlements: Entitlements
    usage: Usage
    audit: Audit


@asynccontextmanager
async def running(settings: ControlPlaneSettings, feed: ChangeFeed) -> AsyncIterator[Services]:
    """Opens the database, ensures what the settings promise, and listens for changes.

    Raises ConfigurationRefused, DependencyUnavailable.
    """
    database = Database(settings.database, name="control")
    await database.open()
    # Whoever is on the path of plain HTTP can sign as the issuer.
    fetch = JwksSettings(allow_plain_http=settings.mode == "development")
    jwks = JwksCache(fetch)
    try:
        services = await _build(settings, database, feed, jwks)
        await _ensure_planes(services)
        async with (
            feed.listening(database.listen(CHANGED_CHANNEL)),
            _watching(services.isolation),
        ):
            yield services
    finally:
        await jwks.aclose()
        await database.close()


async def _build(
    settings: ControlPlaneSettings, database: Database, feed: ChangeFeed, jwks: JwksCache
) -> Services:
    provider = LocalKeyProvider.from_hex(settings.master_key.get_secret_value())
    async with database.system_tx(jobs.START) as cursor:
        signer = await keys.ensure_signing_key(cursor, provider)
        public = await keys.key_set(cursor)
        if settings.bootstrap_platform_key is not None:
            await keys.ensure_platform_key(
                cursor, settings.bootstrap_platform_key.get_secret_value()
            )
    times = PlaneTimes(settings.enrolment_token_seconds, settings.replica_live_seconds)
    planes = Planes(signer, database.clock, times)
    signatory = Signatory(signer, database.clock, planes)
    usage = Usage(planes, database.clock)
    return Services(
        settings=settings,
        database=database,
        isolation=IsolationWatch(DatabaseCatalogue(database), settings.isolation_check_seconds),
        signer=signer,
        feed=feed,
        identity=Identity(
            issuer=settings.issuer,
            signer=signer,
            keys=public,
            clock=database.clock,
            jwks=jwks,
            access_token_seconds=settings.access_token_seconds,
        ),
        planes=planes,
        registry=Registry(signatory, planes, usage),
        api_keys=ApiKeys(signatory),
        catalogue=Catalogue(signatory),
        limits=OrgLimits(signatory, database.clock),
        entitlements=Entitlements(database.clock),
        usage=usage,
        audit=Audit(planes),
    )


@asynccontextmanager
async def _watching(watch: IsolationWatch) -> AsyncIterator[None]:
    """The live database is checked inside the block."""
    task = asyncio.create_task(_keep_watching(watch), name="isolation")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_watching(watch: IsolationWatch) -> None:
    while True:
        try:
            await watch.run()
        except Exception:  # noqa: BLE001 (the border: whatever it is, nobody else watches)
            _log.exception("the watch over the database failed")
        await asyncio.sleep(_REST_SECONDS)


async def _ensure_planes(services: Services) -> None:
    for plane in services.settings.bootstrap_planes:
        request = PlaneRequest(region=plane.region, endpoint=plane.endpoint)
        async with services.database.system_tx(jobs.START) as cursor:
            await services.planes.ensure(
                cursor, plane.name, request, plane.enrolment_token.get_secret_value()
            )
            await services.registry.place_waiting(cursor, plane.region)
