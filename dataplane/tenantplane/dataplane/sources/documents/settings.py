"""Bounds of documents, from upload to search."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class DocumentsSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # Larger documents are refused. The gate's body_limit_bytes applies before it.
    document_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 16 * 1024 * 1024
    # Pages of a PDF at most.
    pages: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    # Characters of text at most, however small the file was that unpacks to them.
    text_chars: Annotated[int, Field(ge=1_000, le=100_000_000)] = 8_000_000
    # Chunks of one document at most: each is embedded, paid for, and held in memory until all are.
    chunks: Annotated[int, Field(ge=1, le=100_000)] = 8_000
    # Length of a chunk: about 300 tokens of English, a passage that answers one question.
    chunk_chars: Annotated[int, Field(ge=100, le=8_000)] = 1_200
    # What two chunks of a passage share, so that a sentence on their border is whole in one of them.
    chunk_overlap_chars: Annotated[int, Field(ge=0, le=4_000)] = 150
    # Longest reading of one document, after which its process is killed.
    read_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    # Memory that reading one document may take, above what its process has at the start.
    read_memory_bytes: Annotated[int, Field(ge=64 * 1024 * 1024)] = 512 * 1024 * 1024
    # Documents that are read at once in a replica, one of an org at most.
    readers: Annotated[int, Field(ge=1, le=64)] = 2
    # Longest wait for one's turn to be read, then 503.
    reader_wait_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    # A reader process is kept ready for so long: it takes a second to start, and 90 MB to keep.
    spare_reader_seconds: Annotated[float, Field(ge=0, le=3600)] = 60.0
    # Whole upload, embedding included.
    upload_seconds: Annotated[float, Field(gt=0, le=3000)] = 900.0
    # Texts in one call of an embedding model. Each answer is one piece of JSON of about 30 kB a text.
    texts_per_call: Annotated[int, Field(ge=1, le=2_048)] = 32
    # How often documents are looked for that another embedding model has embedded.
    re_embed_seconds: Annotated[float, Field(gt=0, le=86_400)] = 30.0

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.chunk_overlap_chars * 2 > self.chunk_chars:
            raise ValueError("chunk_overlap_chars: at most half of chunk_chars")
        return self
