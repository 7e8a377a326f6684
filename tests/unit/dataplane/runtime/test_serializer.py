from __future__ import annotations

import pickle
import uuid
from collections import OrderedDict
from typing import Any

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.types import Interrupt, Send

from tenantplane.core.errors import Forbidden
from tenantplane.dataplane.runtime.serializer import StrictSerializer

SERIALIZER = StrictSerializer()


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"raw",
        {"messages": [HumanMessage("q", id="1"), SystemMessage("s", id="2")]},
        AIMessage(
            "",
            id="3",
            additional_kwargs={
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ]
            },
        ),
        ToolMessage("out", tool_call_id="c", status="error", id="4"),
        uuid.UUID(int=7),
        {1, 2},
        Send("node", {"a": 1}),
        Interrupt(value="why", id="i"),
    ],
)
def test_what_the_graph_writes_is_read_back(value: Any) -> None:
    assert SERIALIZER.loads_typed(SERIALIZER.dumps_typed(value)) == value


def extension(code: int, *parts: Any) -> tuple[str, bytes]:
    return "msgpack", ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(list(parts))))


@pytest.mark.parametrize(
    "hostile",
    [
        extension(0, "os", "system", "true"),
        extension(1, "subprocess", "run", ["true"]),
        extension(2, "builtins", "eval", {"source": "1"}),
        extension(3, "builtins", "str", "x", "format"),
        extension(3, "datetime", "datetime", "x", "fromisoformat"),
        extension(5, "langchain_core.load.serializable", "Serializable", {}),
        extension(5, "langchain_core.messages.human", "HumanMessage", {"content": {"x": 1}}),
        extension(0, "pathlib", "Path", "/etc/passwd"),
        extension(6, "numpy", "array", []),
        extension(99, "a", "b", "c"),
        extension(0, "uuid", "UUID", "not hex"),
        extension(0, "uuid", "UUID", 7),
        extension(2, "langgraph.types", "Interrupt", {"x": 1}),
        ("msgpack", b"\xc1"),
        ("json", b'{"lc": 2, "type": "constructor", "id": ["os", "system"], "args": ["true"]}'),
        ("pickle", pickle.dumps(OrderedDict())),
        ("unheard-of", b""),
    ],
)
def test_what_is_not_on_the_list_is_refused(hostile: tuple[str, bytes]) -> None:
    with pytest.raises(Forbidden) as refused:
        SERIALIZER.loads_typed(hostile)
    assert refused.value.error_code == "checkpoint_refused"
