"""How a checkpoint is laid out in rows, and read back from them. Pure.

The body holds the checkpoint with its small values; a larger value stands in a row of its own, by
channel and version, so that a step writes only what it changed. Bodies, blobs and writes are each
sealed for the place that they stand in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    PendingWrite,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from tenantplane.core.keys.envelope import DataKey
from tenantplane.dataplane.runtime.checkpoint_rows import (
    BlobRow,
    CheckpointRow,
    StateRows,
    WriteRow,
)
from tenantplane.dataplane.runtime.sealing import place, seal, unseal
from tenantplane.dataplane.runtime.serializer import refused

# A longer text is a value of its own: it would be written again at each step.
_INLINE_CHARACTERS: Final = 1024
_MAX_STEP: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Thread:
    """Where checkpoints stand: a thread of an org, by its stored id, and a namespace in it."""

    org_id: str
    thread_id: str
    ns: str

    def checkpoint(self, checkpoint_id: str, parent_id: str | None) -> bytes:
        return place(
            "checkpoint", self.org_id, self.thread_id, self.ns, checkpoint_id, parent_id or ""
        )

    def blob(self, blob_id: str) -> bytes:
        return place("checkpoint_blob", self.org_id, self.thread_id, self.ns, blob_id)

    def write(self, checkpoint_id: str, task_id: str, idx: int, channel: str, path: str) -> bytes:
        return place(
            "checkpoint_write",
            self.org_id,
            self.thread_id,
            self.ns,
            checkpoint_id,
            task_id,
            idx,
            channel,
            path,
        )


@dataclass(frozen=True, slots=True)
class StoredWrite:
    """One write of a task as it was read."""

    task_id: str
    idx: int
    task_path: str
    channel: str
    value: Any


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint as it was read, whole."""

    thread: Thread
    parent_id: str | None
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    writes: tuple[StoredWrite, ...]  # in the order in which live execution applies them


@dataclass(frozen=True, slots=True)
class Seal:
    """What seals and opens the state of one org."""

    key: DataKey
    serializer: SerializerProtocol

    def checkpoint(
        self,
        thread: Thread,
        checkpoint: Checkpoint,
        parent_id: str | None,
        metadata: Mapping[str, Any],
        changed: ChannelVersions,
    ) -> StateRows:
        """The rows of a checkpoint, and of those of its values that changed."""
        inline, large = _split(checkpoint)
        content = {
            "checkpoint": {k: v for k, v in checkpoint.items() if k != "channel_values"},
            "values": inline,
            "channels": list(large),
            "metadata": metadata,
        }
        blob_ids = {channel: _blob_id(checkpoint, channel) for channel in large}
        row = CheckpointRow(
            org_id=thread.org_id,
            thread_id=thread.thread_id,
            ns=thread.ns,
            checkpoint_id=checkpoint["id"],
            parent_id=parent_id,
            source=_text(metadata.get("source")),
            step=_step(metadata.get("step")),
            run_id=_text(metadata.get("run_id")),
            blob_ids=tuple(blob_ids.values()),
            body=self._seal(content, thread.checkpoint(checkpoint["id"], parent_id)),
        )
        blobs = tuple(
            self.blob(thread, blob_ids[channel], value)
            for channel, value in large.items()
            if channel in changed
        )
        return StateRows(thread.org_id, (row,), blobs)

    def blob(self, thread: Thread, blob_id: str, value: Any) -> BlobRow:
        body = self._seal(value, thread.blob(blob_id))
        return BlobRow(thread.org_id, thread.thread_id, thread.ns, blob_id, body)

    def write(
        self,
        thread: Thread,
        checkpoint_id: str,
        write: PendingWrite,
        idx: int,
        path: str,
    ) -> WriteRow:
        task_id, channel, value = write
        at = thread.write(checkpoint_id, task_id, idx, channel, path)
        return WriteRow(
            thread.org_id,
            thread.thread_id,
            thread.ns,
            checkpoint_id,
            task_id,
            idx,
            path,
            channel,
            self._seal(value, at),
        )

    def open(self, org_id: str, rows: Iterable[Mapping[str, Any]]) -> list[StoredCheckpoint]:
        """The rows of a CheckpointQuery, newest first.

        Raises Forbidden (`checkpoint_refused`).
        """
        found = _Found()
        for row in rows:
            found.add(row)
        return [
            self._whole(Thread(org_id, row["thread_id"], row["checkpoint_ns"]), row, found)
            for row in sorted(found.checkpoints, key=_newest, reverse=True)
        ]

    def _whole(self, thread: Thread, row: Mapping[str, Any], found: _Found) -> StoredCheckpoint:
        checkpoint_id, parent_id = row["checkpoint_id"], row["name"]
        content = self._open(row["body"], thread.checkpoint(checkpoint_id, parent_id))
        checkpoint = cast(
            "Checkpoint", {**content["checkpoint"], "channel_values": content["values"]}
        )
        for channel in content["channels"]:
            blob_id = _blob_id(checkpoint, channel)
            body = found.blobs.get((thread.thread_id, thread.ns, blob_id))
            if body is None:
                raise refused("a value that is not there")
            checkpoint["channel_values"][channel] = self._open(body, thread.blob(blob_id))
        written = found.writes.get((thread.thread_id, thread.ns, checkpoint_id), [])
        return StoredCheckpoint(
            thread=thread,
            parent_id=parent_id,
            checkpoint=checkpoint,
            metadata=cast("CheckpointMetadata", content["metadata"]),
            writes=tuple(
                self._write(thread, checkpoint_id, row) for row in sorted(written, key=_applied)
            ),
        )

    def _write(self, thread: Thread, checkpoint_id: str, row: Mapping[str, Any]) -> StoredWrite:
        task_id, idx, path, channel = row["task_id"], row["idx"], row["task_path"], row["name"]
        at = thread.write(checkpoint_id, task_id, idx, channel, path)
        return StoredWrite(task_id, idx, path, channel, self._open(row["body"], at))

    def _seal(self, value: Any, at: bytes) -> bytes:
        return seal(self.key, self.serializer, value, at)

    def _open(self, body: bytes, at: bytes) -> Any:
        return unseal(self.key, self.serializer, body, at)


@dataclass(slots=True)
class _Found:
    """Rows of a query by their kind."""

    checkpoints: list[Mapping[str, Any]] = field(default_factory=list)
    blobs: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    writes: dict[tuple[str, str, str], list[Mapping[str, Any]]] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        thread = row["thread_id"], row["checkpoint_ns"]
        if row["kind"] == "checkpoint":
            self.checkpoints.append(row)
        elif row["kind"] == "blob":
            self.blobs[*thread, row["name"]] = row["body"]
        else:
            self.writes.setdefault((*thread, row["checkpoint_id"]), []).append(row)


def _split(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values that go with the checkpoint, and those that have a row of their own."""
    inline: dict[str, Any] = {}
    large: dict[str, Any] = {}
    for channel, value in checkpoint["channel_values"].items():
        # Without a version there is no name for a row of its own.
        is_inline = _is_small(value) or channel not in checkpoint["channel_versions"]
        (inline if is_inline else large)[channel] = value
    return inline, large


def _is_small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _INLINE_CHARACTERS
    return value is None or isinstance(value, bool | int | float)


def _blob_id(checkpoint: Checkpoint, channel: str) -> str:
    return f"{checkpoint['channel_versions'][channel]}:{channel}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _step(value: object) -> int | None:
    return value if isinstance(value, int) and abs(value) <= _MAX_STEP else None


def _newest(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["checkpoint_id"], row["thread_id"], row["checkpoint_ns"]


def _applied(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return writes_sort_key(row["task_path"], row["task_id"], row["idx"])
