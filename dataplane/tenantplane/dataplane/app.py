"""The data plane put together: which part gets which other. No decision is made here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import LiteralString

from tenantplane.core.db.pool import Database
from tenantplane.core.db.watch import DatabaseCatalogue, IsolationWatch
from tenantplane.core.identity.jwks import JwksCache
from tenantplane.core.identity.verifier import TokenVerifier
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.dataplane.api.audit_records import audit_record_routes
from tenantplane.dataplane.api.documents import document_routes
from tenantplane.dataplane.api.openai import OpenAIApi
from tenantplane.dataplane.api.spend import spend_routes
from tenantplane.dataplane.api.tenant_api import PREFIX, tenant_api
from tenantplane.dataplane.gate.asgi import Application, Gate
from tenantplane.dataplane.gate.entitlements import Entitlements
from tenantplane.dataplane.gate.idempotency import Idempotency
from tenantplane.dataplane.gate.identity import Identity, PlaneProfile
from tenantplane.dataplane.gate.readiness import ReadinessProbe
from tenantplane.dataplane.gate.trust import TrustedKeys
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.ledger.request_retention import RequestRetention
from tenantplane.dataplane.ledger.requests import RequestJournal
from tenantplane.dataplane.ledger.rolling import Roller
from tenantplane.dataplane.ledger.shipper import Shipper
from tenantplane.dataplane.ledger.sweeper import Sweeper
from tenantplane.dataplane.ledger.watermark import Watermark
from tenantplane.dataplane.models.providers import Providers
from tenantplane.dataplane.peering.peer import Peer
from tenantplane.dataplane.runtime.memory import Memory
from tenantplane.dataplane.runtime.retention import Retention
from tenantplane.dataplane.settings import DataPlaneSettings
from tenantplane.dataplane.sources.documents.re_embedding import ReEmbedder
from tenantplane.dataplane.sources.documents.service import Documents
from tenantplane.dataplane.sources.sql.sources import SqlSources
from tenantplane.dataplane.sources.vectors.indexer import Indexer
from tenantplane.dataplane.tools.documents import documents_tool
from tenantplane.dataplane.tools.registry import BUILT_IN
from tenantplane.dataplane.tools.sql import sql_tool
from tenantplane.dataplane.worker import Worker

# No org: readiness enters a tenant as requests do, and finds none of its rows.
_PROBE_ORG = "readiness-probe"
_PROBE_CONTEXT: LiteralString = "SELECT tp.current_org() AS org_id"


class DataPlane:
    """One replica. `gate` is the ASGI application, to be served between `open` and `close`."""

    def __init__(self, settings: DataPlaneSettings) -> None:
        provider = LocalKeyProvider(settings.master_key_bytes())
        self._database = Database(settings.database, name="data")
        self._jwks = JwksCache()
        self._providers = Providers(settings.providers)
        now = self._database.clock.now
        profile = PlaneProfile(settings.plane)
        self._isolation = IsolationWatch(
            DatabaseCatalogue(self._database), settings.peering.isolation_check_seconds
        )
        entitlements = Entitlements(now, self._require)
        keys = TrustedKeys(cool_down_seconds=settings.peering.keys_cool_down_seconds)
        self._peer = Peer(settings, self._database, provider, profile, entitlements, keys)
        self._watermark = Watermark(self._database, self._peer.uplink)
        self._store = AdmissionStore(
            settings.valkey, on_stale=self._peer.sync.a_newer_version_is_known
        )
        self._meter = Meter(self._database, self._store, provider)
        once = settings.idempotency
        self._requests = RequestJournal(
            self._database,
            lease_seconds=once.lease_seconds,
            keep_seconds=once.keep_hours * 3600,
        )
        self._shipper = Shipper(self._database, self._peer.uplink)
        self._memory = Memory(self._database, self._meter.keys)
        self._documents = Documents(self._database, self._providers, settings.documents)
        self._tools = (
            *BUILT_IN,
            documents_tool(self._documents),
            sql_tool(SqlSources(self._database, settings.sql)),
        )
        self._worker = self._jobs(settings, entitlements)
        self._runtime = settings.runtime
        verifier = TokenVerifier(self._jwks, now=self._database.clock.unix)
        self.gate = Gate(
            Identity(profile, entitlements, keys, verifier, now),
            self._routes(),
            ReadinessProbe(
                {
                    "postgres": self._probe_postgres,
                    "valkey": self._probe_valkey,
                    "isolation": self._isolation.probe,
                    "ledger": self._watermark.probe,
                },
                entitlements,
                self._notes,
            ),
            body_limit_bytes=settings.body_limit_bytes,
            idempotency=Idempotency(self._requests, self._meter.keys, self._meter.refusals, once),
        )
        self._opened = AsyncExitStack()

    async def open(self) -> None:
        """Connects the stores, restores what was signed, and starts the background tasks. The
        control plane may be away: then readiness says so until it has spoken once.

        Raises ConfigurationRefused and DependencyUnavailable; nothing stays open then.
        """
        async with AsyncExitStack() as opening:
            opening.push_async_callback(self._jwks.aclose)
            opening.push_async_callback(self._peer.close)
            opening.push_async_callback(self._database.close)
            await self._database.open()
            opening.push_async_callback(self._store.close)
            await self._store.open()
            opening.push_async_callback(self._providers.close)
            await self._providers.open()
            opening.push_async_callback(self._meter.close)
            await self._meter.start()
            opening.push_async_callback(self._requests.stop)
            await self._requests.start()
            opening.push_async_callback(self._memory.stop)
            await self._memory.start()
            opening.push_async_callback(self._documents.close)
            await self._peer.restore()
            opening.push_async_callback(self._worker.stop)
            self._worker.start()
            self._opened = opening.pop_all()

    async def close(self) -> None:
        """Ends tasks and connections in the reverse order. To be called when no request runs."""
        await self._opened.aclose()

    def _jobs(self, settings: DataPlaneSettings, entitlements: Entitlements) -> Worker:
        sweeper = Sweeper(self._meter, entitlements.roots, require=self._watermark.require)
        documents, vectors = settings.documents, settings.vectors
        re_embedder = ReEmbedder(entitlements, self._meter, self._providers, documents)
        return Worker(
            {
                "peering": self._peer.run,
                "isolation": partial(self._isolation.run, self._peer.uplink.send_isolation),
                "sweeper": partial(sweeper.run, settings.sweep_seconds),
                "watermark": self._watermark.run,
                "roller": Roller(self._database).run,
                "requests": RequestRetention(
                    self._database, settings.idempotency.retention_seconds
                ).run,
                "shipper": partial(self._shipper.run, settings.ship_seconds),
                "indexer": partial(Indexer(self._database, vectors).run, vectors.index_seconds),
                "retention": Retention(self._database, settings.runtime).run,
                "re-embedder": partial(re_embedder.run, documents.re_embed_seconds),
            }
        )

    def _routes(self) -> tuple[tuple[str, Application], ...]:
        openai = OpenAIApi(
            meter=self._meter,
            providers=self._providers,
            database=self._database,
            settings=self._runtime,
            memory=self._memory,
            tools=self._tools,
        )
        tenant = tenant_api(
            (
                spend_routes(self._meter),
                audit_record_routes(self._database, self._meter.keys),
                document_routes(self._documents, self._meter, self._providers),
            )
        )
        return (("/v1/", openai), (PREFIX, tenant))

    async def _probe_postgres(self) -> None:
        async with self._database.tenant_tx(_PROBE_ORG) as cursor:
            await cursor.execute(_PROBE_CONTEXT)

    async def _probe_valkey(self) -> None:
        # Whatever it answers, the library has run: an epoch that was lost heals with a request.
        await self._store.expired(_PROBE_ORG, epoch=1, limit=1)

    def _require(self) -> None:
        """What must hold before anything is served. Raises DependencyUnavailable."""
        self._isolation.require()
        self._watermark.require()

    def _notes(self) -> Mapping[str, str]:
        notes = {
            f"task:{name}": state.trouble or "running"
            for name, state in self._worker.states.items()
        }
        if self._peer.sync.diverged:
            notes["versions"] = "differ from the control plane's beacon"
        if compared := self._watermark.note():
            notes["ledger-compared"] = compared
        if refused := self._shipper.note():
            notes["shipping"] = refused
        return notes
