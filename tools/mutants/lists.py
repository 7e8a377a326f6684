"""Mutants of allow-lists, entry by entry: a hostile one let in, or what an entry checks dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from pglast.enums import SQLValueFunctionOp

from tenantplane.dataplane.runtime import checkpointer, serializer
from tenantplane.dataplane.sources.sql import allowed, parser
from tests.fixtures.hostile_sql import FUNCTIONS, TYPES
from tests.fixtures.hostile_state import GADGETS, TOLD
from tools.mutants.mutant import CodeEdit, Mutant

_DECODER: Final = ("tests/unit/dataplane/runtime/test_serializer",)
_METADATA: Final = ("tests/unit/dataplane/runtime/test_checkpointer",)
_PARSER: Final = ("tests/unit/dataplane/sources/sql/test_",)

_OPERATORS: Final = ("@@", "~<~")
# Each of these alone makes a query possible; a MergeStmt comes with nodes of its own.
_NODES: Final = (
    "CollateClause",
    "DeleteStmt",
    "InsertStmt",
    "IntoClause",
    "LockingClause",
    "ParamRef",
    "RangeTableSample",
    "UpdateStmt",
    "XmlExpr",
)


def list_mutants() -> Iterator[Mutant]:
    """Of the decoder's, of metadata's, and of the SQL parser's lists."""
    yield from _decoder()
    for key in TOLD:
        yield _admitted(checkpointer.__name__, "METADATA_KEYS", key, _METADATA)
    for name, entries in (
        ("FUNCTIONS", FUNCTIONS),
        ("TYPES", TYPES),
        ("OPERATORS", _OPERATORS),
        ("NODES", _NODES),
        ("TIME_VALUES", sorted({op.name for op in SQLValueFunctionOp} - allowed.TIME_VALUES)),
    ):
        for entry in entries:
            yield _admitted(allowed.__name__, name, entry, _PARSER)
    for column in sorted(allowed.SYSTEM_COLUMNS):
        text = f"SYSTEM_COLUMNS - {{{column!r}}}"
        yield _mutant(allowed.__name__, "SYSTEM_COLUMNS", column, "not refused", text, _PARSER)
    for node in sorted(parser._CHECKS, key=lambda kind: kind.__name__):
        kind = node.__name__
        text = f"{{kind: check for kind, check in _CHECKS.items() if kind is not ast.{kind}}}"
        yield _mutant(parser.__name__, "_CHECKS", kind, "not checked", text, _PARSER)


def _decoder() -> Iterator[Mutant]:
    module = serializer.__name__
    read = {(module, name) for _, module, name in serializer._READERS}
    for named in sorted({*SAFE_MSGPACK_TYPES, *GADGETS} - read):
        entry = (_code_of(named[0]), *named)
        text = f"_READERS | {{{entry!r}: lambda payload: payload}}"
        yield _mutant(module, "_READERS", ".".join(named), "is read", text, _DECODER)
    for entry in serializer._READERS:
        text = f"_READERS | {{{entry!r}: lambda payload: payload}}"
        name = f"{entry[1]}.{entry[2]}"
        yield _mutant(module, "_READERS", name, "its payload is not looked at", text, _DECODER)
    for encoding in ("json", "pickle"):
        yield _admitted(module, "_ENCODINGS", encoding, _DECODER)


def _code_of(module: str) -> int:
    """Of LangGraph's extension: models of pydantic, named fields, and the rest by one argument."""
    if module.startswith("langchain_core.messages."):
        return serializer._PYDANTIC
    if module.startswith("langgraph."):
        return serializer._KEYWORDS
    return serializer._SINGLE_ARGUMENT


def _admitted(module: str, name: str, entry: str, killers: tuple[str, ...]) -> Mutant:
    text = f"{name} | {{{entry!r}}}"
    return _mutant(module, name, entry, "is on the list", text, killers)


def _mutant(
    module: str, name: str, entry: str, what: str, text: str, killers: tuple[str, ...]
) -> Mutant:
    short = module.removeprefix("tenantplane.")
    return Mutant(
        f"code:{short}.{name}[{entry}]",
        f"{entry} {what}",
        killers,
        edit=CodeEdit("value", module, name, text),
    )
