"""Checkpoints are read with a strict decoder: types on a list, everything else is an error.

LangGraph's own strict mode hands back the raw payload of a blocked type and goes on; a checkpoint
that somebody tampered with must not be half-read (F25). The list is short: what the supervisor's
state is made of, and the scalars that a channel may hold. No pickle, no methods, no module import
by a name from the data but those named here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import ormsgpack
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt, Send

from tenantplane.core.errors import Forbidden

# Codes of LangGraph's msgpack extension types (langgraph.checkpoint.serde.jsonplus).
_SINGLE_ARGUMENT: Final = 0
_POSITIONAL: Final = 1
_KEYWORDS: Final = 2
_METHOD: Final = 3  # datetime.fromisoformat is the one method that is ever written
_PYDANTIC: Final = 5

_READERS: Final[dict[tuple[int, str, str], Callable[[Any], Any]]] = {
    (_PYDANTIC, "langchain_core.messages.ai", "AIMessage"): AIMessage.model_validate,
    (_PYDANTIC, "langchain_core.messages.human", "HumanMessage"): HumanMessage.model_validate,
    (_PYDANTIC, "langchain_core.messages.system", "SystemMessage"): SystemMessage.model_validate,
    (_PYDANTIC, "langchain_core.messages.tool", "ToolMessage"): ToolMessage.model_validate,
    (_SINGLE_ARGUMENT, "uuid", "UUID"): lambda value: UUID(hex=value),
    (_SINGLE_ARGUMENT, "builtins", "set"): set,
    (_SINGLE_ARGUMENT, "builtins", "frozenset"): frozenset,
    (_METHOD, "datetime", "datetime"): datetime.fromisoformat,
    (_POSITIONAL, "langgraph.types", "Send"): lambda parts: Send(*parts),
    (_KEYWORDS, "langgraph.types", "Interrupt"): lambda fields: Interrupt(**fields),
}
_ENCODINGS: Final = frozenset({"null", "bytes", "bytearray", "msgpack"})


class StrictSerializer(SerializerProtocol):
    """Writes as LangGraph does; reads what is on the list and raises Forbidden on the rest."""

    def __init__(self) -> None:
        self._stock = JsonPlusSerializer(
            pickle_fallback=False,
            allowed_json_modules=None,
            allowed_msgpack_modules=None,
            __unpack_ext_hook__=_read_extension,
        )

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self._stock.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        encoding, body = data
        if encoding not in _ENCODINGS:
            raise refused(f"encoding {encoding!r}")
        try:
            return self._stock.loads_typed((encoding, body))
        except ValueError as malformed:
            raise refused("malformed data") from malformed


def _read_extension(code: int, data: bytes) -> Any:
    parts = ormsgpack.unpackb(data, ext_hook=_read_extension, option=ormsgpack.OPT_NON_STR_KEYS)
    if not isinstance(parts, list | tuple) or len(parts) < 3:
        raise refused("an extension of another form")
    module, name, payload = parts[0], parts[1], parts[2]
    reader = _READERS.get((code, str(module), str(name)))
    if reader is None:
        raise refused(f"type {str(module)[:80]}.{str(name)[:80]}")
    try:
        return reader(payload)
    except (ValueError, TypeError, AttributeError, LookupError) as malformed:
        raise refused(f"a malformed {name}") from malformed


def refused(what: str) -> Forbidden:
    return Forbidden(
        f"A stored checkpoint holds {what}, which is not read.",
        hint="It was not written by this service, or was changed since: restore the thread.",
        code="checkpoint_refused",
    )
