from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.tools.clock import time_in
from tenantplane.dataplane.tools.definitions import ToolFailed
from tenantplane.dataplane.tools.registry import resolve_tools
from tests.fixtures.ledger import a_snapshot


def snapshot(*tools: str) -> Snapshot:
    return a_snapshot("acme").model_copy(update={"tools": tools})


def tenant(scopes: frozenset[str] | None = None) -> TenantContext:
    return TenantContext("acme", "acme", "user:u", "u", "pro", "r", scopes=scopes)


@pytest.mark.parametrize(
    ("tools", "scopes", "functions"),
    [
        ((), None, set()),
        (("clock",), None, {"clock"}),
        (("notes",), None, {"notes_write", "notes_read"}),
        (("notes_write",), None, set()),
        (("clock", "unheard-of"), None, {"clock"}),
        (("clock", "notes"), frozenset({"clock"}), {"clock"}),
        (("clock",), frozenset({"notes"}), set()),
        (("clock",), frozenset(), set()),
    ],
)
def test_functions_are_those_of_the_snapshot_within_the_keys_scopes(
    tools: tuple[str, ...], scopes: frozenset[str] | None, functions: set[str]
) -> None:
    assert set(resolve_tools(snapshot(*tools), tenant(scopes))) == functions


def test_a_schema_is_what_openai_takes() -> None:
    clock = resolve_tools(snapshot("clock"), tenant())["clock"].schema()
    assert clock["type"] == "function"
    parameters = clock["function"]["parameters"]
    assert parameters["additionalProperties"] is False
    assert list(parameters["properties"]) == ["time_zone"]


def test_time_is_told_with_its_offset() -> None:
    noon = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert time_in(noon, "Europe/Berlin") == "2026-07-01T14:00:00+02:00 (Europe/Berlin)"
    for unknown in ("Mars/Olympus", "../etc/passwd", "", "/"):
        with pytest.raises(ToolFailed):
            time_in(noon, unknown)
