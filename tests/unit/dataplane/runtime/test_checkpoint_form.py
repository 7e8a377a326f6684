"""Rows of a checkpoint that were moved or renamed do not open, whichever of their names it was."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from tenantplane.core.errors import Forbidden
from tenantplane.core.keys.envelope import DataKey, new_data_key
from tenantplane.dataplane.runtime.checkpoint_form import Seal, StoredCheckpoint, Thread
from tenantplane.dataplane.runtime.serializer import StrictSerializer

SEAL = Seal(DataKey(new_data_key()), StrictSerializer())
THREAD = Thread("acme", "acme::t1", "ns")
LARGE = ["a list has a row of its own"]
VERSION = "7"


def rows() -> dict[str, dict[str, Any]]:
    """A checkpoint with one large value and one write, as a CheckpointQuery answers them."""
    checkpoint = empty_checkpoint()
    checkpoint["id"] = "c1"
    checkpoint["channel_values"] = {"big": LARGE}
    checkpoint["channel_versions"] = {"big": VERSION}
    made = SEAL.checkpoint(THREAD, checkpoint, "c0", {"step": 1}, {"big": VERSION})
    (row,), (blob,) = made.checkpoints, made.blobs
    write = SEAL.write(THREAD, "c1", ("task", "big", "written"), 3, "path")
    at = {"thread_id": THREAD.thread_id, "checkpoint_ns": THREAD.ns, "checkpoint_id": "c1"}
    return {
        "checkpoint": {"kind": "checkpoint", **at, "name": "c0", "body": row.body},
        "blob": {"kind": "blob", **at, "name": blob.blob_id, "body": blob.body},
        "write": {
            "kind": "write",
            **at,
            "task_id": "task",
            "idx": 3,
            "task_path": "path",
            "name": "big",
            "body": write.body,
        },
    }


def read(org_id: str, found: dict[str, dict[str, Any]]) -> StoredCheckpoint:
    (stored,) = SEAL.open(org_id, found.values())
    return stored


def test_what_was_laid_out_is_read_back() -> None:
    stored = read("acme", rows())
    assert stored.checkpoint["channel_values"] == {"big": LARGE}
    assert (stored.parent_id, stored.metadata) == ("c0", {"step": 1})
    assert [asdict(write) for write in stored.writes] == [
        {"task_id": "task", "idx": 3, "task_path": "path", "channel": "big", "value": "written"}
    ]


@pytest.mark.fault("F60")
@pytest.mark.parametrize("kind", ["checkpoint", "blob", "write"])
@pytest.mark.parametrize("change", [{"org_id": "globex"}, {"thread_id": "acme::t2"}, {"ns": ""}])
def test_a_row_of_another_org_thread_or_namespace_does_not_open(
    kind: str, change: dict[str, str]
) -> None:
    found, elsewhere = rows(), replace(THREAD, **change)
    # The others of its kind do open there: only this one stems from elsewhere.
    moved = {
        "checkpoint": SEAL._seal(_content(), elsewhere.checkpoint("c1", "c0")),
        "blob": SEAL._seal(LARGE, elsewhere.blob(found["blob"]["name"])),
        "write": SEAL._seal("written", elsewhere.write("c1", "task", 3, "big", "path")),
    }
    assert read("acme", found)
    found[kind]["body"] = moved[kind]
    _refused(found)


@pytest.mark.fault("F60")
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("checkpoint", {"name": "another parent"}),
        ("checkpoint", {"name": None}),
        ("write", {"task_id": "another"}),
        ("write", {"idx": 4}),
        ("write", {"name": "another channel"}),
        ("write", {"task_path": "another"}),
    ],
    ids=["parent", "no-parent", "task", "index", "channel", "path"],
)
def test_a_row_under_another_name_does_not_open(kind: str, changes: dict[str, Any]) -> None:
    found = rows()
    found[kind] |= changes
    _refused(found)


@pytest.mark.fault("F60")
def test_a_checkpoint_under_another_id_does_not_open() -> None:
    found = rows()
    found["checkpoint"]["checkpoint_id"] = "c2"
    del found["write"]
    _refused(found)


@pytest.mark.fault("F60")
def test_a_write_of_another_checkpoint_does_not_open() -> None:
    found = rows()
    found["write"]["body"] = SEAL.write(THREAD, "c2", ("task", "big", "written"), 3, "path").body
    _refused(found)


@pytest.mark.fault("F60")
def test_an_older_value_of_a_channel_does_not_open() -> None:
    found = rows()
    found["blob"]["body"] = SEAL.blob(THREAD, "6:big", LARGE).body
    _refused(found)


def _content() -> dict[str, Any]:
    checkpoint = empty_checkpoint() | {"id": "c1", "channel_versions": {"big": VERSION}}
    del checkpoint["channel_values"]  # type: ignore[misc]
    return {"checkpoint": checkpoint, "values": {}, "channels": ["big"], "metadata": {}}


def _refused(found: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(Forbidden) as refused:
        read("acme", found)
    assert refused.value.error_code == "checkpoint_refused"
