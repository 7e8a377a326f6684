"""LangGraph's checkpoints in tenant tables: one saver for one org, every statement under RLS.

Made per request and bound to its tenant, so there is no saver without one. Thread ids are bare
outside and `{org_id}::{id}` in storage. Semantics of the stock savers, but: all state is sealed
under the org's data key, metadata is an allow-list (whatever is in `configurable` would land
there), the decoder is strict, transactions are short and hold no lock between them, and what runs
write at the same time is committed together.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
)

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import Forbidden, InvalidInput
from tenantplane.core.ids import is_org_id
from tenantplane.core.tenancy import SEPARATOR, bare, namespaced
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.checkpoint_form import Seal, StoredCheckpoint, Thread
from tenantplane.dataplane.runtime.checkpoint_journal import CheckpointJournal
from tenantplane.dataplane.runtime.checkpoint_pruning import CheckpointPruning
from tenantplane.dataplane.runtime.checkpoint_query import CheckpointQuery
from tenantplane.dataplane.runtime.checkpoint_rows import StateRows, ThreadKey
from tenantplane.dataplane.runtime.serializer import StrictSerializer

METADATA_KEYS = frozenset({"source", "step", "parents", "run_id", "counters_since_delta_snapshot"})
_MAX_ID = 200
_PAGE = 50
_COPY_PAGE = 10


class TenantSaver(BaseCheckpointSaver[str]):
    """The checkpoints of one org. Async alone: the sync methods raise NotImplementedError.

    All raise Forbidden (`thread_refused`, `checkpoint_refused`) and DependencyUnavailable.
    """

    def __init__(
        self,
        database: Database,
        keys: DataKeys,
        journal: CheckpointJournal,
        org_id: str,
        *,
        metadata_keys: frozenset[str] = METADATA_KEYS,
    ) -> None:
        if not is_org_id(org_id):
            # Here, not when it writes: what it writes goes together with what others do.
            raise Forbidden("A checkpointer needs a tenant.", code="tenant_forgotten")
        super().__init__(serde=StrictSerializer())
        self._database = database
        self._keys = keys
        self._journal = journal
        self.org_id = org_id
        self._metadata_keys = metadata_keys

    def with_allowlist(self, extra_allowlist: Any) -> TenantSaver:
        """The list of types is closed: a graph cannot widen it."""
        return self

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """Counted up and compared as text. The random end keeps two branches of a thread apart:
        each would give its own value of a channel the same number."""
        number = int(current.partition(".")[0]) if isinstance(current, str) else current or 0
        return f"{number + 1:016}.{secrets.token_hex(6)}"

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread, checkpoint_id = self._thread(config), get_checkpoint_id(config) or None
        query = CheckpointQuery(
            org_id=self.org_id, thread_id=thread.thread_id, ns=thread.ns, id=checkpoint_id
        )
        rows = None
        if checkpoint_id is None:
            rows = await self._journal.latest(ThreadKey(self.org_id, thread.thread_id, thread.ns))
        found = await self._open(rows if rows is not None else await query.rows(self._database))
        return self._tuple(found[0]) if found else None

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Newest first; without a config those of the saver's org, never another's."""
        wanted = filter or {}
        remaining = limit
        async for found in self._pages(self._query(config, wanted, before), _PAGE):
            for item in found:
                if not _matches(item.metadata, wanted):
                    continue
                if remaining is not None and remaining <= 0:
                    return
                remaining = None if remaining is None else remaining - 1
                yield self._tuple(item)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Durable when it returns; values of channels that did not change are not written again."""
        thread = self._thread(config)
        allowed = self._allowed(config, metadata)
        parent_id = get_checkpoint_id(config)
        seal = await self._seal()
        rows = seal.checkpoint(thread, checkpoint, parent_id, allowed, new_versions)
        await self._journal.append(rows)
        return self._config(thread, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Durable when it returns; may be before the checkpoint that the writes belong to."""
        thread, checkpoint_id = self._thread(config), get_checkpoint_id(config)
        if checkpoint_id is None:
            raise InvalidInput("Writes belong to a checkpoint: its id is missing.")
        seal = await self._seal()
        rows = tuple(
            seal.write(
                thread,
                checkpoint_id,
                (task_id, channel, value),
                WRITES_IDX_MAP.get(channel, position),
                task_path,
            )
            for position, (channel, value) in enumerate(writes)
        )
        if rows:
            await self._journal.append(StateRows(self.org_id, writes=rows))

    async def adelete_thread(self, thread_id: str) -> None:
        """All of the thread: checkpoints, values, writes, and the thread itself."""
        await self._pruning().delete([self._stored(thread_id)], with_threads=True)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """The checkpoints that these runs wrote, and what was written for them."""
        await self._pruning().delete_runs([str(run_id) for run_id in run_ids])

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Oldest first: where it ends early the target is an earlier state of the source, and
        copying again completes it."""
        query = self._query({"configurable": {"thread_id": source_thread_id}}, {}, None)
        target = self._stored(target_thread_id)
        seal = await self._seal()
        pages = [page async for page in self._pages(query, _COPY_PAGE)]
        for page in reversed(pages):
            for item in reversed(page):
                await self._journal.append(_copied(seal, item, target))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`keep_latest` leaves the newest checkpoint of each namespace, and those before it that a
        delta channel is rebuilt from; `delete` leaves none. Raises InvalidInput."""
        if isinstance(thread_ids, str) or strategy not in {"keep_latest", "delete"}:
            raise InvalidInput("Prune takes a list of thread ids, and keep_latest or delete.")
        stored = [self._stored(thread_id) for thread_id in thread_ids]
        if strategy == "delete":
            await self._pruning().delete(stored)
            return
        for thread_id in stored:
            await self._pruning().keep(thread_id, 1)

    async def akeep_newest(self, thread_id: str, kept: int, *, slack: int = 0) -> None:
        """As prune, with `kept` checkpoints of each namespace, where there are `slack` more."""
        await self._pruning().keep(self._stored(thread_id), kept, slack=slack)

    def _pruning(self) -> CheckpointPruning:
        return CheckpointPruning(self._database, self.org_id, self._open)

    async def _seal(self) -> Seal:
        return Seal(await self._keys.of(self.org_id), self.serde)

    async def _open(self, rows: Sequence[Mapping[str, Any]]) -> list[StoredCheckpoint]:
        if not rows:
            return []  # and no key is made for a tenant that only looks
        return (await self._seal()).open(self.org_id, rows)

    async def _pages(
        self, query: CheckpointQuery, size: int
    ) -> AsyncIterator[list[StoredCheckpoint]]:
        query = replace(query, limit=size)
        while True:
            found = await self._open(await query.rows(self._database))
            if found:
                yield found
            if len(found) < size:
                return
            last = found[-1]
            query = replace(
                query,
                after_id=last.checkpoint["id"],
                after_thread=last.thread.thread_id,
                after_ns=last.thread.ns,
            )

    def _stored(self, thread_id: object) -> str:
        text = str(thread_id)
        if not text or len(text) > _MAX_ID or SEPARATOR in text or "\0" in text:
            raise Forbidden("That is no thread id of this org.", code="thread_refused")
        return namespaced(self.org_id, text)

    def _thread(self, config: RunnableConfig) -> Thread:
        configurable = config["configurable"]
        stored = self._stored(configurable["thread_id"])
        return Thread(self.org_id, stored, configurable.get("checkpoint_ns", ""))

    def _config(self, thread: Thread, checkpoint_id: str) -> RunnableConfig:
        return {
            "configurable": {
                "thread_id": bare(self.org_id, thread.thread_id),
                "checkpoint_ns": thread.ns,
                "checkpoint_id": checkpoint_id,
            }
        }

    def _allowed(self, config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
        found = {**config.get("metadata", {}), **metadata}
        return {key: found[key] for key in found if key in self._metadata_keys}

    def _query(
        self,
        config: RunnableConfig | None,
        metadata_filter: Mapping[str, Any],
        before: RunnableConfig | None,
    ) -> CheckpointQuery:
        configurable = config["configurable"] if config else {}
        thread_id = configurable.get("thread_id")
        source, step, run_id = (metadata_filter.get(key) for key in ("source", "step", "run_id"))
        return CheckpointQuery(
            org_id=self.org_id,
            thread_id=None if thread_id is None else self._stored(thread_id),
            ns=configurable.get("checkpoint_ns"),
            id=configurable.get("checkpoint_id"),
            before=get_checkpoint_id(before) if before else None,
            # What else is asked for is compared after opening: it stands nowhere in clear.
            source=source if isinstance(source, str) else None,
            step=step if type(step) is int and abs(step) < 2**31 else None,
            run_id=run_id if isinstance(run_id, str) else None,
        )

    def _tuple(self, stored: StoredCheckpoint) -> CheckpointTuple:
        parent_id = stored.parent_id
        return CheckpointTuple(
            config=self._config(stored.thread, stored.checkpoint["id"]),
            checkpoint=stored.checkpoint,
            metadata=stored.metadata,
            parent_config=self._config(stored.thread, parent_id) if parent_id else None,
            pending_writes=[(w.task_id, w.channel, w.value) for w in stored.writes],
        )


def _matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(key in metadata and metadata[key] == value for key, value in wanted.items())


def _copied(seal: Seal, item: StoredCheckpoint, target_thread_id: str) -> StateRows:
    """Sealed anew: a ciphertext opens in its own thread alone."""
    thread = Thread(item.thread.org_id, target_thread_id, item.thread.ns)
    versions = item.checkpoint["channel_versions"]
    rows = seal.checkpoint(thread, item.checkpoint, item.parent_id, item.metadata, versions)
    writes = tuple(
        seal.write(
            thread, item.checkpoint["id"], (w.task_id, w.channel, w.value), w.idx, w.task_path
        )
        for w in item.writes
    )
    return StateRows(rows.org_id, rows.checkpoints, rows.blobs, writes)
