"""What of a thread's history goes: all of it, what some runs wrote, or what is older than enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tenantplane.core.db.pool import Database, TenantCursor
from tenantplane.dataplane.runtime.checkpoint_form import StoredCheckpoint
from tenantplane.dataplane.runtime.checkpoint_query import CheckpointQuery, Rows
from tenantplane.dataplane.runtime.statements import statement

Open = Callable[[Rows], Awaitable[list[StoredCheckpoint]]]


class CheckpointPruning:
    """Of one org; thread ids are as stored. Each method is one transaction, or ends in one."""

    def __init__(self, database: Database, org_id: str, open_rows: Open) -> None:
        self._database = database
        self._org_id = org_id
        self._open = open_rows

    async def delete(self, thread_ids: Sequence[str], *, with_threads: bool = False) -> None:
        key = {"org_id": self._org_id, "thread_ids": list(thread_ids)}
        async with self._database.tenant_tx(self._org_id) as cursor:
            if with_threads:
                # First: a run that is at work there loses its claim, and stops.
                await cursor.execute(statement("delete_threads"), key)
            for table in ("delete_writes", "delete_checkpoints", "delete_blobs"):
                await cursor.execute(statement(table), key)

    async def delete_runs(self, run_ids: Sequence[str]) -> None:
        async with self._database.tenant_tx(self._org_id) as cursor:
            await cursor.execute(
                statement("delete_runs"), {"org_id": self._org_id, "run_ids": list(run_ids)}
            )
            touched = [row["thread_id"] for row in await cursor.fetchall()]
            await self._delete_unused(cursor, touched)

    async def keep(self, thread_id: str, kept: int, *, slack: int = 0) -> None:
        """Keeps the newest `kept` of each namespace, where there are more than `slack` beyond."""
        key = {"org_id": self._org_id, "thread_id": thread_id}
        async with self._database.tenant_tx(self._org_id) as cursor:
            await cursor.execute(statement("kept_checkpoints"), key | {"kept": kept + slack})
            rows = await cursor.fetchall()
        if all(row["nth"] <= kept + slack for row in rows):
            return
        newest = {(r["checkpoint_ns"], r["checkpoint_id"]) for r in rows if r["nth"] <= kept}
        needed = newest | await self._delta_ancestors(thread_id, newest)
        async with self._database.tenant_tx(self._org_id) as cursor:
            await cursor.execute(
                statement("prune_checkpoints"),
                key
                | {"kept_ns": [ns for ns, _ in needed], "kept_ids": [name for _, name in needed]},
            )
            await self._delete_unused(cursor, [thread_id])

    async def _delete_unused(self, cursor: TenantCursor, thread_ids: Sequence[str]) -> None:
        await cursor.execute(
            statement("delete_unused_blobs"),
            {"org_id": self._org_id, "thread_ids": list(thread_ids)},
        )

    async def _delta_ancestors(
        self, thread_id: str, kept: set[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        """Checkpoints before the kept ones whose writes a delta channel is rebuilt from: back to
        the nearest one that holds the channel's whole value."""
        ancestors: set[tuple[str, str]] = set()
        heads = {ns: max(name for of, name in kept if of == ns) for ns, _ in kept}
        for ns, checkpoint_id in heads.items():
            found = await self._one(thread_id, ns, checkpoint_id)
            missing = _delta_channels(found)
            while found and found.parent_id and missing:
                found = await self._one(thread_id, ns, found.parent_id)
                if found is not None:
                    ancestors.add((ns, found.checkpoint["id"]))
                    missing -= found.checkpoint["channel_values"].keys()
        return ancestors

    async def _one(self, thread_id: str, ns: str, checkpoint_id: str) -> StoredCheckpoint | None:
        query = CheckpointQuery(org_id=self._org_id, thread_id=thread_id, ns=ns, id=checkpoint_id)
        found = await self._open(await query.rows(self._database))
        return found[0] if found else None


def _delta_channels(stored: StoredCheckpoint | None) -> set[str]:
    """Channels of which this checkpoint holds only that they changed since their last snapshot."""
    if stored is None:
        return set()
    counted = stored.metadata.get("counters_since_delta_snapshot") or {}
    return set(counted) - stored.checkpoint["channel_values"].keys()
