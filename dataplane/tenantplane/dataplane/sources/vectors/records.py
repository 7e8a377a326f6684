"""What goes into the library and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """Vectors of different spaces never meet. `model` is the name of the org's grant."""

    model: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A piece of a document. `position` counts from 0; `heading` is the path of headings above."""

    text: str
    embedding: Sequence[float]
    position: int
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document as it stands. `stale`: embedded in another space than the library's latest."""

    document_id: UUID
    name: str
    media_type: str
    bytes: int
    chunks: int
    sha256: str
    embedding_model: str
    status: Literal["ready", "stale"]
    user_id: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StaleDocument:
    """A document to be embedded anew: its chunks' texts and headings, in order, as of `version`."""

    document: DocumentRow
    version: int
    texts: tuple[str, ...]
    headings: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. Ranks count from 1; None where that search did not find it."""

    document_id: UUID
    document_name: str
    position: int
    heading: str | None
    text: str
    score: float
    vector_rank: int | None
    text_rank: int | None
