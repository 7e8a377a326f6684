"""Type by type: what the graph writes is read as what it is, and nothing beside it is read at all,
neither what LangGraph's own decoder lets through nor what others were taken over by (F25)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.types import Interrupt, Send

from tenantplane.core.errors import Forbidden
from tenantplane.dataplane.runtime.serializer import StrictSerializer
from tests.fixtures.hostile_state import GADGETS

SERIALIZER = StrictSerializer()
WRITTEN = {
    "AIMessage": AIMessage("a", id="1"),
    "HumanMessage": HumanMessage("h", id="2"),
    "SystemMessage": SystemMessage("s", id="3"),
    "ToolMessage": ToolMessage("t", tool_call_id="c", id="4"),
    "UUID": uuid.UUID(int=7),
    "set": {1, 2},
    "frozenset": frozenset({1, 2}),
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "Send": Send("node", {"a": 1}),
    "Interrupt": Interrupt(value="why", id="i"),
}


def answer(encoding: str, body: bytes) -> object:
    """The code of our own refusal, or whatever came of it instead."""
    try:
        return SERIALIZER.loads_typed((encoding, body))
    except Forbidden as refused:
        return refused.error_code
    except Exception as other:  # noqa: BLE001 (then it was the stock decoder that balked)
        return other


@pytest.mark.parametrize("name", WRITTEN)
def test_each_type_is_read_as_itself(name: str) -> None:
    value = WRITTEN[name]
    found = SERIALIZER.loads_typed(SERIALIZER.dumps_typed(value))
    assert (type(found), found) == (type(value), value)


@pytest.mark.fault("F25")
@pytest.mark.parametrize(
    "named",
    sorted(n for n in {*SAFE_MSGPACK_TYPES, *GADGETS} if n[1] not in WRITTEN),
    ids=".".join,
)
@pytest.mark.parametrize("code", range(7))
def test_no_other_type_is_read(code: int, named: tuple[str, str]) -> None:
    for payload in ("true", ["true"], {"source": "1"}):
        body: Any = ormsgpack.Ext(code, ormsgpack.packb([*named, payload, "fromisoformat"]))
        assert answer("msgpack", ormsgpack.packb(body)) == "checkpoint_refused"


@pytest.mark.fault("F25")
@pytest.mark.parametrize("encoding", ["json", "pickle", "yaml", "MSGPACK", ""])
def test_no_other_encoding_is_read(encoding: str) -> None:
    for body in (b"{}", b"\x80\x04N.", b""):
        assert answer(encoding, body) == "checkpoint_refused"
