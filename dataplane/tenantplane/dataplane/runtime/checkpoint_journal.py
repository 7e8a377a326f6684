"""Checkpoints and tasks' writes of all runs of a process, read and written together.

A run of three steps writes nine times, and nine transactions of its own would cost nine flushes of
the log. Whoever writes gets the answer for its own rows, after their commit.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.ledger.commit import GroupCommit
from tenantplane.dataplane.runtime.checkpoint_query import Rows
from tenantplane.dataplane.runtime.checkpoint_rows import (
    BlobRow,
    CheckpointRow,
    StateRows,
    ThreadKey,
    WriteRow,
)
from tenantplane.dataplane.runtime.statements import statement

_RETRY_AFTER_SECONDS = 1.0

# Runs whose rows are committed together go on together: with larger batches they fall into step, and
# the process idles while all of them wait for one commit.
_MOST_ROWS_TOGETHER: Final = 16
# A larger thread is read on a connection of its own: the others would wait for it.
_MOST_BYTES_TOGETHER: Final = 256 * 1024

_Row = TypeVar("_Row", CheckpointRow, BlobRow, WriteRow)
_encode = json.JSONEncoder(ensure_ascii=True, check_circular=False, separators=(",", ":")).encode


class CheckpointJournal:
    """Rows of all orgs, on one connection to append and one to read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads: GroupCommit[ThreadKey, Rows | None] = GroupCommit(
            database, self._latest, name="read of checkpoints", weigh=lambda _: 1
        )
        self._commits: GroupCommit[StateRows, bool] = GroupCommit(
            database,
            self._append,
            name="checkpoint",
            weigh=_weight,
            most=_MOST_ROWS_TOGETHER,
        )

    async def start(self) -> None:
        """Safe to call again."""
        await self._commits.start()
        await self._reads.start()

    async def stop(self) -> None:
        """Whoever still waits gets DependencyUnavailable."""
        await self._commits.stop()
        await self._reads.stop()

    async def append(self, rows: StateRows) -> None:
        """Durable when it returns. Each row may be appended again, by its key, so what a lost
        connection left open is found out by another attempt.

        Raises DependencyUnavailable, and InvalidInput for what Postgres cannot store.
        """
        proven = await self._commits.append_again(rows)
        if not proven:
            raise DependencyUnavailable(
                "Postgres did not accept this tenant's proof.",
                hint="Is the context key of this process installed in its database?",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )

    async def latest(self, thread: ThreadKey) -> Rows | None:
        """The rows of a thread's newest checkpoint, as a CheckpointQuery answers them; None where they
        are too large to be read together with those of others. Raises DependencyUnavailable."""
        return await self._reads.append_again(thread)

    async def _latest(
        self, connection: AsyncConnection[DictRow], batch: Sequence[ThreadKey]
    ) -> list[Rows | None]:
        wanted: dict[str, list[dict[str, str]]] = {}
        for thread in dict.fromkeys(batch):
            wanted.setdefault(thread.org_id, []).append({"t": thread.thread_id, "n": thread.ns})
        tenants = [{"o": o, "p": self._database.proof_for(o), "w": wanted[o]} for o in wanted]
        cursor = await connection.execute(
            statement("latest_checkpoints"),
            {"wanted": _encode(tenants), "most_bytes": _MOST_BYTES_TOGETHER},
        )
        found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for row in await cursor.fetchall():
            found.setdefault((row["thread_id"], row["checkpoint_ns"]), []).append(row)
        return [_readable(found.get((t.thread_id, t.ns), ())) for t in batch]

    async def _append(
        self, connection: AsyncConnection[DictRow], batch: Sequence[StateRows]
    ) -> list[bool]:
        proofs = {rows.org_id: self._database.proof_for(rows.org_id) for rows in batch}
        cursor = await connection.execute(
            statement("append_checkpoints"), _parameters(batch, proofs)
        )
        answer = await cursor.fetchone()
        assert answer is not None, "a function answers"
        refused = set(answer["refused"])
        return [rows.org_id not in refused for rows in batch]


def _readable(rows: Rows) -> Rows | None:
    return None if any(row["body"] is None for row in rows) else rows


def _weight(rows: StateRows) -> int:
    return rows.weight


def _parameters(batch: Sequence[StateRows], proofs: Mapping[str, str]) -> dict[str, str]:
    checkpoints = [_checkpoint(row) for row in _last(r for rows in batch for r in rows.checkpoints)]
    blobs = [_blob(row) for row in _last(r for rows in batch for r in rows.blobs)]
    writes = [_write(row) for row in _last(r for rows in batch for r in rows.writes)]
    return {
        "proofs": _encode(proofs),
        "checkpoints": _encode(checkpoints),
        "blobs": _encode(blobs),
        "writes": _encode(writes),
    }


def _last(rows: Iterable[_Row]) -> list[_Row]:
    """One row of each key, in one order everywhere: two processes that lock the same rows would
    wait in a circle. The last of a key stands, but the first of a task's ordinary writes."""
    by_key: dict[tuple[str | int, ...], _Row] = {}
    for row in rows:
        key = _key(row)
        if key not in by_key or not (isinstance(row, WriteRow) and row.idx >= 0):
            by_key[key] = row
    return [by_key[key] for key in sorted(by_key)]


def _key(row: CheckpointRow | BlobRow | WriteRow) -> tuple[str | int, ...]:
    match row:
        case CheckpointRow():
            return row.thread_id, row.ns, row.checkpoint_id
        case BlobRow():
            return row.thread_id, row.ns, row.blob_id
        case WriteRow():
            return row.thread_id, row.ns, row.checkpoint_id, row.task_id, row.idx


def _checkpoint(row: CheckpointRow) -> dict[str, Any]:
    return {
        "o": row.org_id,
        "t": row.thread_id,
        "n": row.ns,
        "i": row.checkpoint_id,
        "p": row.parent_id,
        "s": row.source,
        "e": row.step,
        "r": row.run_id,
        "b": row.blob_ids,
        "d": _text(row.body),
    }


def _blob(row: BlobRow) -> dict[str, Any]:
    return {
        "o": row.org_id,
        "t": row.thread_id,
        "n": row.ns,
        "i": row.blob_id,
        "d": _text(row.body),
    }


def _write(row: WriteRow) -> dict[str, Any]:
    return {
        "o": row.org_id,
        "t": row.thread_id,
        "n": row.ns,
        "i": row.checkpoint_id,
        "k": row.task_id,
        "x": row.idx,
        "a": row.task_path,
        "c": row.channel,
        "d": _text(row.body),
    }


def _text(body: bytes) -> str:
    return b64encode(body).decode("ascii")
