"""Sections cut into passages of a size that one embedding can stand for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from langchain_text_splitters import RecursiveCharacterTextSplitter

from tenantplane.dataplane.sources.documents.reading import Section, too_large

# Paragraph, line, sentence (also where no space follows it), word, and anywhere at last.
_SEPARATORS: Final = ["\n\n", "\n", "。", ". ", " ", ""]


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    chunk_chars: int
    overlap_chars: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk before it is embedded. Its place in the document is its place in the list."""

    text: str
    heading: str | None


def passages(sections: Iterable[Section], limits: ChunkLimits) -> list[Passage]:
    """Never across a heading or a page. Raises Unprocessable (more chunks than are kept)."""
    cut = []
    for passage in _passages(sections, limits):
        cut.append(passage)
        if len(cut) > limits.chunks:
            raise too_large(f"has more than {limits.chunks} passages")
    return cut


def _passages(sections: Iterable[Section], limits: ChunkLimits) -> Iterator[Passage]:
    splitter = RecursiveCharacterTextSplitter(
        chunk_size=limits.chunk_chars,
        chunk_overlap=limits.overlap_chars,
        separators=_SEPARATORS,
        keep_separator="end",
    )
    for section in sections:
        for text in splitter.split_text(section.text):
            if text.strip():
                yield Passage(text, section.heading)
