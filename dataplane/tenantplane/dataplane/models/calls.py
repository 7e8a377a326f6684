"""What a caller of a metered run says and gets: calls of models, their pieces, their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.dataplane.ledger.calls import Receipt
from tenantplane.dataplane.models.answer import Answer
from tenantplane.dataplane.models.prices import TokenCount


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model: messages and options as they go upstream; `audited` is what its record
    keeps besides."""

    grant: ModelGrant
    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    output_limit: int | None = None
    audited: Mapping[str, JsonValue] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        return {**self.options, "messages": list(self.messages)}


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a stream as the provider sent it, and the text that it adds. `followed`: the next
    one came with it, so that the two can be passed on together."""

    chunk: Mapping[str, Any]
    text: str
    followed: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """An answer whose outcome is durable."""

    answer: Answer
    tokens: TokenCount
    receipt: Receipt
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """One call of an embedding model.

    `audited` is what the record keeps in place of the texts, which may be a document's: a record
    outlives the document, so it says which texts they were and not what they say.
    """

    grant: ModelGrant
    texts: Sequence[str]
    audited: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A vector for each text, whose outcome is durable."""

    vectors: list[list[float]]
    tokens: TokenCount
    receipt: Receipt
