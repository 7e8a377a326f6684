from __future__ import annotations

from typing import Any

import pytest

from tenantplane.cli.apply import isolation_word
from tenantplane.core.apis.registry import IsolationView

CLEAN: dict[str, Any] = {
    "reported_at": "2026-01-01T00:00:00Z",
    "age_seconds": 1,
    "interval_seconds": 60,
    "refusals": 0,
    "warnings": 4,
}


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "verified"),
        ({"age_seconds": 181}, "stale"),
        ({"refusals": 2}, "2 refused"),
        ({"refusals": 2, "age_seconds": 181}, "2 refused"),
    ],
    ids=["clean", "old", "refused", "refused-and-old"],
)
def test_a_planes_check_is_one_word(changed: dict[str, object], word: str) -> None:
    assert isolation_word(IsolationView.model_validate(CLEAN | changed)) == word


def test_a_plane_that_has_said_nothing_is_not_verified() -> None:
    assert isolation_word(None) == "not reported yet"
