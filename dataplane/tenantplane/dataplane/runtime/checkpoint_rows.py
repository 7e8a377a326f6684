"""Rows of agents' state on their way into Postgres: what one call of LangGraph writes at once."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint; `blob_ids` name the larger values that it consists of."""

    org_id: str
    thread_id: str  # as stored: `{org_id}::{id}`
    ns: str
    checkpoint_id: str
    parent_id: str | None
    source: str | None
    step: int | None
    run_id: str | None
    blob_ids: tuple[str, ...]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BlobRow:
    """One version of one channel's value."""

    org_id: str
    thread_id: str
    ns: str
    blob_id: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class WriteRow:
    """One write of a task. `idx` is negative for errors, interrupts and their answers."""

    org_id: str
    thread_id: str
    ns: str
    checkpoint_id: str
    task_id: str
    idx: int
    task_path: str
    channel: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StateRows:
    """What is committed together, of one org."""

    org_id: str
    checkpoints: tuple[CheckpointRow, ...] = ()
    blobs: tuple[BlobRow, ...] = ()
    writes: tuple[WriteRow, ...] = ()
    weight: int = field(init=False)  # about its bytes

    def __post_init__(self) -> None:
        weight = 0
        for rows in (self.checkpoints, self.blobs, self.writes):
            for row in rows:
                weight += len(row.body)
        object.__setattr__(self, "weight", weight)


@dataclass(frozen=True, slots=True)
class ThreadKey:
    """Where the newest checkpoint is asked for."""

    org_id: str
    thread_id: str
    ns: str
