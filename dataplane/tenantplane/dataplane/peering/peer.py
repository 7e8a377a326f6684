"""The plane's side of the peering, put together: identity, keys, snapshots, and the way up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenantplane.core.apis.planes import Enrolled
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable, TenantplaneError
from tenantplane.core.identity.keyset import KeySet
from tenantplane.core.keys.envelope import KeyProvider
from tenantplane.dataplane.gate.entitlements import Entitlements
from tenantplane.dataplane.gate.identity import PlaneProfile
from tenantplane.dataplane.gate.trust import Jwks, TrustedKeys
from tenantplane.dataplane.peering.client import ControlPlaneClient
from tenantplane.dataplane.peering.identity import PlaneIdentities, PlaneIdentity
from tenantplane.dataplane.peering.session import PlaneSession
from tenantplane.dataplane.peering.store import PlaneStore, require_own
from tenantplane.dataplane.peering.sync import Sync
from tenantplane.dataplane.peering.uplink import ControlPlaneUplink
from tenantplane.dataplane.settings import DataPlaneSettings

# Less than what is left of a pod's grace when its requests are drained.
_GOODBYE_SECONDS = 2.0

_log = logging.getLogger(__name__)


@asynccontextmanager
async def session_of(
    settings: DataPlaneSettings, database: Database, provider: KeyProvider
) -> AsyncIterator[PlaneSession | None]:
    """The conversation of a plane that has enrolled, for an operator's command beside it; None
    where it has not: a command never enrols. Raises ConfigurationRefused (another's database)."""
    store = PlaneStore(database)
    state = await store.read()
    if state is None or state.enrolled is None:
        yield None
        return
    identities = PlaneIdentities(settings.plane, store, provider)
    client = ControlPlaneClient(
        settings.control_plane_url, timeout_seconds=settings.peering.timeout_seconds
    )
    try:
        yield PlaneSession(
            client,
            PlaneIdentity(await identities.key(), state.enrolled),
            database.clock.unix,
            stream_silence_seconds=settings.peering.stream_silence_seconds,
        )
    finally:
        await client.close()


class Peer:
    """`restore` needs Postgres alone; `run` is the task that needs the control plane."""

    def __init__(
        self,
        settings: DataPlaneSettings,
        database: Database,
        provider: KeyProvider,
        profile: PlaneProfile,
        entitlements: Entitlements,
        keys: TrustedKeys,
    ) -> None:
        self._settings = settings
        self._database = database
        self._profile = profile
        self._keys = keys
        self._store = PlaneStore(database)
        self._identities = PlaneIdentities(settings.plane, self._store, provider)
        self._client = ControlPlaneClient(
            settings.control_plane_url, timeout_seconds=settings.peering.timeout_seconds
        )
        self._session: PlaneSession | None = None
        self.uplink = ControlPlaneUplink()
        self.sync = Sync(
            settings.plane,
            settings.replica,
            settings.peering,
            self._store,
            entitlements,
            keys,
            database.clock.now,
        )

    async def restore(self) -> None:
        """Puts in force what this plane knew when it last ran.

        Raises ConfigurationRefused where the database is another plane's.
        """
        state = await self._store.read()
        if state is None:
            return
        require_own(state, self._settings.plane)
        if state.enrolled is not None:
            self._believe(state.enrolled)
        await self.sync.restore(state)

    async def run(self) -> None:
        """Enrols where it has not, then follows the control plane, for ever."""
        key = await self._identities.key()
        identity = await self._identities.enrolled(
            key, self._client, self._settings.enrolment_token
        )
        self._believe(identity.enrolled)
        self._keys.fetch_with(self._fetch_keys)
        session = PlaneSession(
            self._client,
            identity,
            self._database.clock.unix,
            stream_silence_seconds=self._settings.peering.stream_silence_seconds,
        )
        self._session = session
        self.uplink.connect(session)
        await self.sync.follow(session)

    async def close(self) -> None:
        """Takes leave of the control plane where it answers in time; it forgets us anyway."""
        if self._session is not None:
            try:
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await self._session.leave(self._settings.replica)
            except (TenantplaneError, TimeoutError) as unheard:
                _log.warning("the control plane did not hear the goodbye: %s", unheard)
        await self._client.close()

    def _believe(self, enrolled: Enrolled) -> None:
        self._profile.region = enrolled.region
        self._profile.issuer = enrolled.issuer
        try:
            # Never in place of newer keys that were fetched since.
            if self._keys.generation == 0:
                self._keys.replace(enrolled.jwks)
        except ValueError as unusable:
            raise DependencyUnavailable(
                f"The control plane's keys are not usable: {unusable}.",
                code="control_plane_garbage",
                retry_after_seconds=2,
            ) from None

    async def _fetch_keys(self) -> Jwks:
        jwks = await self._client.jwks()
        KeySet.from_jwks(jwks)  # what no replica could use is not kept for the others
        await self._store.keep_keys(jwks)
        return jwks
