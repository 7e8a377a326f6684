"""When an org gets an index of its own, and when it loses it."""

from __future__ import annotations

import pytest

from tenantplane.dataplane.sources.vectors.indexer import ShelfState, Step, next_step


@pytest.mark.parametrize(
    ("chunks", "has_shelf", "step"),
    [
        (0, False, None),
        (999, False, None),
        (1000, False, "open"),
        (60_000, False, "open"),
        (60_000, True, "fill"),
        (1000, True, "fill"),
        # Between the two sizes it stays where it is: a tenant at the border does not move to and fro.
        (999, True, "fill"),
        (500, True, "fill"),
        (499, True, "return"),
        (0, True, "return"),
    ],
)
def test_next_step(chunks: int, has_shelf: bool, step: Step | None) -> None:
    assert next_step(ShelfState("acme", chunks, has_shelf), 1000) == step
