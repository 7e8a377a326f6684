"""Documents follow the org's embedding model: what another model embedded is embedded anew.

One document after the other, each as a metered run of its org under the limits in force: at a cap
it stops, and goes on in a later round. A document is swapped whole and at once, so whoever dies in
between has changed nothing; searches meanwhile find it by its words.

Two replicas do not pay twice: the run's id is made from the document, its version, the space and
the quarter of an hour, and a run makes each call once (Conflict). Whoever died in one is followed
by whoever comes in the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Protocol
from uuid import UUID, uuid5

from tenantplane.core.apis.snapshot import ModelGrant, Snapshot
from tenantplane.core.errors import Conflict, InvalidInput, TenantplaneError
from tenantplane.core.telemetry.logging import about
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.models.accounting import MeteredRun
from tenantplane.dataplane.models.embeddings import embedding_grants
from tenantplane.dataplane.models.providers import Providers
from tenantplane.dataplane.sources.documents.access import DATA_SOURCE
from tenantplane.dataplane.sources.documents.embedding import embed_texts, space_of
from tenantplane.dataplane.sources.documents.settings import DocumentsSettings
from tenantplane.dataplane.sources.vectors.library import EmbeddingSpace, Library, StaleDocument

_log = logging.getLogger(__name__)

USER: Final = "system:re-embedding"
_RUNS: Final = UUID("7d1b8f3a-5f9c-4e0e-9d0c-3a2f6b1c7e55")
# As long as one document may take: a second attempt must not begin beside the first.
_ATTEMPT_SECONDS: Final = 900
# Documents are uploaded under an older snapshot in the very moment of a change: looked for again.
_LOOK_AGAIN_SECONDS: Final = 600.0
# Then it is the next org's turn.
_DOCUMENTS_A_ROUND: Final = 20


class Orgs(Protocol):
    """What is asked of gate/entitlements.py: Entitlements."""

    def versions(self) -> dict[str, int]: ...

    def current(self, org_id: str) -> Snapshot: ...


@dataclass(frozen=True, slots=True)
class _Done:
    """An org of which no document was stale, when, and for which space."""

    space: EmbeddingSpace
    at: datetime


class ReEmbedder:
    """A background job of each replica."""

    def __init__(
        self,
        orgs: Orgs,
        meter: Meter,
        providers: Providers,
        settings: DocumentsSettings,
        *,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        """`now` is the database's clock unless a test moves it."""
        self._now = now or meter.database.clock.now
        self._orgs = orgs
        self._meter = meter
        self._providers = providers
        self._settings = settings
        self._done: dict[str, _Done] = {}
        # Documents whose texts a provider refuses: not tried again until they or the model change.
        self._refused: set[tuple[UUID, int, EmbeddingSpace]] = set()

    async def run(self, seconds: float) -> None:
        """For ever: a pause of `seconds` follows a round in which nothing was left to do."""
        while True:
            if not await self.round():
                await asyncio.sleep(seconds)

    async def round(self) -> int:
        """One look at each org; answers how many documents were swapped."""
        swapped = 0
        for org_id in sorted(self._orgs.versions()):
            try:
                swapped += await self._org(org_id)
            except TenantplaneError as refused:
                # At a cap, suspended, a provider that is down: later. The others go on.
                _log.info("re-embedding of %s waits: %s", org_id, refused.error_code)
            except Exception:  # noqa: BLE001 (whatever it is, it must not keep the others waiting)
                _log.exception("re-embedding of %s failed", org_id)
        return swapped

    async def _org(self, org_id: str) -> int:
        snapshot = self._orgs.current(org_id)
        grants = embedding_grants(snapshot)
        if DATA_SOURCE not in snapshot.data_sources or not grants:
            return 0
        grant = grants[0]
        space = space_of(grant, self._providers)
        if self._was_looked_at(org_id, space):
            return 0
        library = Library(self._meter.database, org_id)
        tried: dict[UUID, bool] = {}
        with about(org_id=org_id):
            while len(tried) < _DOCUMENTS_A_ROUND:
                left = await library.stale(space, len(tried) + 1)
                stale = next((s for s in left if s.document.document_id not in tried), None)
                if stale is None:
                    break
                # Each once a round, whatever comes of it: nothing is paid for again and again.
                tried[stale.document.document_id] = await self._document(
                    library, snapshot, grant, space, stale
                )
        if not tried:
            self._done[org_id] = _Done(space, self._now())
        return sum(tried.values())

    def _was_looked_at(self, org_id: str, space: EmbeddingSpace) -> bool:
        done = self._done.get(org_id)
        if done is None or done.space != space:
            return False
        return (self._now() - done.at).total_seconds() < _LOOK_AGAIN_SECONDS

    async def _document(
        self,
        library: Library,
        snapshot: Snapshot,
        grant: ModelGrant,
        space: EmbeddingSpace,
        stale: StaleDocument,
    ) -> bool:
        row = stale.document
        key = (row.document_id, stale.version, space)
        if key in self._refused:
            return False
        run = self._run(snapshot, row.document_id, stale.version, space)
        audited = {"document": row.name, "sha256": row.sha256, "purpose": "re-embedding"}
        try:
            vectors = await embed_texts(
                run, grant, stale.texts, audited, self._settings.texts_per_call
            )
            swapped = await library.re_embed(
                row.document_id, space, vectors, of_version=stale.version
            )
        except Conflict:
            return False  # another replica is at it, or died at it
        except InvalidInput as refused:
            _log.warning("document %s cannot be re-embedded: %s", row.document_id, refused)
            self._refused.add(key)
            return False
        _log.info("document %s re-embedded: %s", row.document_id, swapped)
        return swapped

    def _run(
        self, snapshot: Snapshot, document_id: UUID, version: int, space: EmbeddingSpace
    ) -> MeteredRun:
        attempt = int(self._now().timestamp()) // _ATTEMPT_SECONDS
        name = f"{snapshot.org_id} {document_id} {version} {space} {attempt}"
        tenant = TenantContext(
            org_id=snapshot.org_id,
            root_org_id=snapshot.root_org_id,
            principal=USER,
            user_id=USER,
            plan=snapshot.plan,
            region=snapshot.region,
        )
        standing: Callable[[], Snapshot] = partial(self._orgs.current, snapshot.org_id)
        return MeteredRun(
            self._meter,
            self._providers,
            tenant,
            snapshot,
            standing,
            run_id=uuid5(_RUNS, name),
            thread_id=None,
        )
