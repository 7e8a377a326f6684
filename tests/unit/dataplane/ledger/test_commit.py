"""What goes into one commit, and what may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.ledger import commit
from tenantplane.dataplane.ledger.commit import GroupCommit

MEBIBYTE = 1024 * 1024


class Connections:
    """Stands where the database does; the rows never get further than `batches`."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.open = asyncio.Event()

    @asynccontextmanager
    async def append_connection(self) -> AsyncIterator[None]:
        await self.open.wait()
        yield

    async def append(self, _: Any, rows: Sequence[bytes]) -> list[int]:
        self.batches.append(list(rows))
        return [len(row) for row in rows]


@pytest.fixture
async def connections() -> Connections:
    return Connections()


@pytest.fixture
async def group(connections: Connections) -> AsyncIterator[GroupCommit[bytes, int]]:
    made = GroupCommit(cast(Database, connections), connections.append, name="row", weigh=len)
    await made.start()
    yield made
    await made.stop()


async def test_large_rows_share_no_commit_with_many_others(
    connections: Connections, group: GroupCommit[bytes, int]
) -> None:
    sizes = [MEBIBYTE] * 10 + [10 * MEBIBYTE] + [1] * 100
    answers = [group.enqueue(b"x" * size) for size in sizes]
    connections.open.set()
    assert await asyncio.gather(*answers) == sizes
    weights = [sum(map(len, batch)) for batch in connections.batches]
    assert all(
        weight <= commit.MAX_BATCH_BYTES or len(batch) == 1
        for weight, batch in zip(weights, connections.batches, strict=True)
    )
    assert len(connections.batches) <= 6  # and small ones still share


async def test_what_waits_is_bounded_in_bytes_and_room_comes_back(
    connections: Connections, group: GroupCommit[bytes, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "MAX_WAITING_BYTES", 3 * MEBIBYTE)
    row = b"x" * MEBIBYTE
    waiting = [group.enqueue(row) for _ in range(3)]
    with pytest.raises(DependencyUnavailable, match="overloaded"):
        group.enqueue(row)
    connections.open.set()
    await asyncio.gather(*waiting)
    assert await group.append(row) == MEBIBYTE
