"""LangGraph's checkpoints in tenant tables: one saver for one org, every statement under RLS.

Made per request and bound to its tenant, so there is no saver without one. Thread ids are bare
outside and `{org_id}::{id}` in storage. Semantics of the stock savers, but: metadata is an
allow-list (whatever is in `configurable` would land there), the decoder is strict, transactions are
short and hold no lock between them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, LiteralString, cast

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
from psycopg.types.json import Jsonb

from tenantplane.core.db.pool import Database, TenantCursor
from tenantplane.core.errors import Forbidden
from tenantplane.core.tenancy import SEPARATOR, bare, namespaced
from tenantplane.dataplane.runtime.serializer import StrictSerializer

METADATA_KEYS = frozenset({"source", "step", "parents", "run_id"})
_MAX_ID = 200
_PAGE = 50

_PUT: LiteralString = """
INSERT INTO dataplane.checkpoint (org_id, thread_id, checkpoint_ns, checkpoint_id,
                                  parent_checkpoint_id, encoding, body, metadata)
VALUES (%(org_id)s, %(thread_id)s, %(ns)s, %(id)s, %(parent)s, %(encoding)s, %(body)s, %(metadata)s)
ON CONFLICT (org_id, thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
   SET parent_checkpoint_id = EXCLUDED.parent_checkpoint_id, encoding = EXCLUDED.encoding,
       body = EXCLUDED.body, metadata = EXCLUDED.metadata
"""
# A repeated task writes the same again: the first stays. Special writes (errors, interrupts, their
# answers; negative idx) are replaced.
_PUT_WRITE: LiteralString = """
INSERT INTO dataplane.checkpoint_write (org_id, thread_id, checkpoint_ns, checkpoint_id, task_id,
                                        idx, task_path, channel, encoding, body)
VALUES (%(org_id)s, %(thread_id)s, %(ns)s, %(id)s, %(task_id)s, %(idx)s, %(task_path)s,
        %(channel)s, %(encoding)s, %(body)s)
ON CONFLICT (org_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
   SET channel = EXCLUDED.channel, encoding = EXCLUDED.encoding, body = EXCLUDED.body,
       task_path = EXCLUDED.task_path
 WHERE EXCLUDED.idx < 0
"""
_GET: LiteralString = """
SELECT * FROM dataplane.checkpoint
 WHERE org_id = %(org_id)s AND thread_id = %(thread_id)s AND checkpoint_ns = %(ns)s
   AND (%(id)s::text IS NULL OR checkpoint_id = %(id)s)
 ORDER BY checkpoint_id DESC LIMIT 1
"""
# The order in which live execution applies a step's writes (langgraph's writes_sort_key).
_WRITES: LiteralString = """
SELECT task_id, channel, encoding, body FROM dataplane.checkpoint_write
 WHERE org_id = %(org_id)s AND thread_id = %(thread_id)s AND checkpoint_ns = %(ns)s
   AND checkpoint_id = %(id)s
 ORDER BY task_path, task_id, idx
"""
_LIST: LiteralString = """
SELECT * FROM dataplane.checkpoint
 WHERE org_id = %(org_id)s
   AND (%(thread_id)s::text IS NULL OR thread_id = %(thread_id)s)
   AND (%(ns)s::text IS NULL OR checkpoint_ns = %(ns)s)
   AND (%(id)s::text IS NULL OR checkpoint_id = %(id)s)
   AND (%(before)s::text IS NULL OR checkpoint_id < %(before)s)
   AND metadata @> %(filter)s
   AND (%(after_id)s::text IS NULL
        OR (checkpoint_id, thread_id, checkpoint_ns)
           < (%(after_id)s, %(after_thread)s, %(after_ns)s))
 ORDER BY checkpoint_id DESC, thread_id DESC, checkpoint_ns DESC LIMIT %(limit)s
"""
_DELETE_CHECKPOINTS: LiteralString = """
DELETE FROM dataplane.checkpoint WHERE org_id = %(org_id)s AND thread_id = %(thread_id)s
"""
_DELETE_WRITES: LiteralString = """
DELETE FROM dataplane.checkpoint_write WHERE org_id = %(org_id)s AND thread_id = %(thread_id)s
"""


class TenantSaver(BaseCheckpointSaver[int]):
    """The checkpoints of one org. Async alone: the sync methods raise NotImplementedError."""

    def __init__(
        self, database: Database, org_id: str, *, metadata_keys: frozenset[str] = METADATA_KEYS
    ) -> None:
        if not org_id:
            raise Forbidden("A checkpointer needs a tenant.", code="tenant_forgotten")
        super().__init__(serde=StrictSerializer())
        self._database = database
        self.org_id = org_id
        self._metadata_keys = metadata_keys

    def with_allowlist(self, extra_allowlist: Any) -> TenantSaver:
        """The list of types is closed: a graph cannot widen it."""
        return self

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        key = self._key(config) | {"id": get_checkpoint_id(config)}
        async with self._database.tenant_tx(self.org_id) as cursor:
            await cursor.execute(_GET, key)
            row = await cursor.fetchone()
            return await self._tuple(cursor, row) if row else None

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Newest first; without a config those of the saver's org, never another's."""
        query = self._list_query(config, filter, before)
        remaining = limit
        while remaining is None or remaining > 0:
            page = _PAGE if remaining is None else min(_PAGE, remaining)
            found = await self._page(query | {"limit": page})
            for _, item in found:
                yield item
            if len(found) < page:
                return
            remaining = None if remaining is None else remaining - page
            last = found[-1][0]
            query |= {
                "after_id": last["checkpoint_id"],
                "after_thread": last["thread_id"],
                "after_ns": last["checkpoint_ns"],
            }

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        key = self._key(config)
        encoding, body = self.serde.dumps_typed(checkpoint)
        async with self._database.tenant_tx(self.org_id) as cursor:
            await cursor.execute(
                _PUT,
                key
                | {
                    "id": checkpoint["id"],
                    "parent": get_checkpoint_id(config),
                    "encoding": encoding,
                    "body": body,
                    "metadata": Jsonb(self._allowed(config, metadata)),
                },
            )
        return self._config(key["thread_id"], key["ns"], checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        key = self._key(config) | {
            "id": get_checkpoint_id(config),
            "task_id": task_id,
            "task_path": task_path,
        }
        rows = []
        for position, (channel, value) in enumerate(writes):
            encoding, body = self.serde.dumps_typed(value)
            idx = WRITES_IDX_MAP.get(channel, position)
            rows.append(key | {"idx": idx, "channel": channel, "encoding": encoding, "body": body})
        async with self._database.tenant_tx(self.org_id) as cursor:
            await cursor.executemany(_PUT_WRITE, rows)

    async def adelete_thread(self, thread_id: str) -> None:
        key = {"org_id": self.org_id, "thread_id": self._stored(thread_id)}
        async with self._database.tenant_tx(self.org_id) as cursor:
            await cursor.execute(_DELETE_WRITES, key)
            await cursor.execute(_DELETE_CHECKPOINTS, key)

    def _stored(self, thread_id: object) -> str:
        text = str(thread_id)
        if not text or len(text) > _MAX_ID or SEPARATOR in text or "\0" in text:
            raise Forbidden("That is no thread id of this org.", code="thread_refused")
        return namespaced(self.org_id, text)

    def _key(self, config: RunnableConfig) -> dict[str, Any]:
        configurable = config["configurable"]
        return {
            "org_id": self.org_id,
            "thread_id": self._stored(configurable["thread_id"]),
            "ns": configurable.get("checkpoint_ns", ""),
        }

    def _config(self, stored_thread: str, ns: str, checkpoint_id: str) -> RunnableConfig:
        return {
            "configurable": {
                "thread_id": bare(self.org_id, stored_thread),
                "checkpoint_ns": ns,
                "checkpoint_id": checkpoint_id,
            }
        }

    def _allowed(self, config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
        found = {**config.get("metadata", {}), **metadata}
        return {key: found[key] for key in found if key in self._metadata_keys}

    def _list_query(
        self,
        config: RunnableConfig | None,
        metadata_filter: dict[str, Any] | None,
        before: RunnableConfig | None,
    ) -> dict[str, Any]:
        configurable = config["configurable"] if config else {}
        thread_id = configurable.get("thread_id")
        return {
            "org_id": self.org_id,
            "thread_id": None if thread_id is None else self._stored(thread_id),
            "ns": configurable.get("checkpoint_ns"),
            "id": configurable.get("checkpoint_id"),
            "before": get_checkpoint_id(before) if before else None,
            "filter": Jsonb(metadata_filter or {}),
            "after_id": None,
            "after_thread": None,
            "after_ns": None,
        }

    async def _page(self, query: dict[str, Any]) -> list[tuple[dict[str, Any], CheckpointTuple]]:
        async with self._database.tenant_tx(self.org_id) as cursor:
            await cursor.execute(_LIST, query)
            rows = await cursor.fetchall()
            return [(row, await self._tuple(cursor, row)) for row in rows]

    async def _tuple(self, cursor: TenantCursor, row: dict[str, Any]) -> CheckpointTuple:
        stored, ns, checkpoint_id = row["thread_id"], row["checkpoint_ns"], row["checkpoint_id"]
        await cursor.execute(
            _WRITES,
            {"org_id": self.org_id, "thread_id": stored, "ns": ns, "id": checkpoint_id},
        )
        writes = await cursor.fetchall()
        parent = row["parent_checkpoint_id"]
        return CheckpointTuple(
            config=self._config(stored, ns, checkpoint_id),
            checkpoint=self.serde.loads_typed((row["encoding"], row["body"])),
            metadata=cast("CheckpointMetadata", row["metadata"]),
            parent_config=self._config(stored, ns, parent) if parent else None,
            pending_writes=[
                (w["task_id"], w["channel"], self.serde.loads_typed((w["encoding"], w["body"])))
                for w in writes
            ],
        )
