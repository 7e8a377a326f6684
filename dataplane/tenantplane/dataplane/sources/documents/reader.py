"""The process that reads one document, and ends: python -I -m …sources.documents.reader

    out  "ready"                          once all that it needs is loaded
    in   one line of JSON (ReadOrder), then the document's bytes to the end
    out  one JSON object: {"passages": [[text, heading], …]} or {"refused": {…}}

It has no environment, so no secret; it takes the limits of its order upon itself before it touches
the first byte, cannot write a file or start a process, and is the first that the kernel kills where
memory is short.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tenantplane.core.errors import Unprocessable
from tenantplane.dataplane.sources.documents.chunking import ChunkLimits, passages
from tenantplane.dataplane.sources.documents.media import MediaType, Medium
from tenantplane.dataplane.sources.documents.reading import ReadLimits, read, too_large

READY = b"ready\n"
_OUT_OF_MEMORY = "needs more memory to be read than there is for one"


class ReadOrder(BaseModel):
    """What to read, and how much of everything it may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    media_type: MediaType
    charset: str | None
    pages: int
    text_chars: int
    chunks: int
    chunk_chars: int
    chunk_overlap_chars: int
    memory_bytes: int
    cpu_seconds: int


def main() -> None:
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    line = sys.stdin.buffer.readline()
    if not line:
        return  # whoever started it did not need it
    order = ReadOrder.model_validate_json(line)
    _confine(order)
    answer = json.dumps(_answer(order, sys.stdin.buffer.read()), ensure_ascii=False)
    sys.stdout.buffer.write(answer.encode())
    sys.stdout.buffer.flush()


def _answer(order: ReadOrder, data: bytes) -> dict[str, Any]:
    try:
        sections = read(
            data, Medium(order.media_type, order.charset), ReadLimits(order.pages, order.text_chars)
        )
        limits = ChunkLimits(order.chunk_chars, order.chunk_overlap_chars, order.chunks)
        return {"passages": [[p.text, p.heading] for p in passages(sections, limits)]}
    except Unprocessable as refused:
        return _refusal(refused)
    except (MemoryError, RecursionError):
        return _refusal(too_large(_OUT_OF_MEMORY))


def _refusal(refused: Unprocessable) -> dict[str, Any]:
    return {
        "refused": {
            "detail": refused.detail,
            "hint": refused.hint,
            "code": refused.error_code,
        }
    }


def _confine(order: ReadOrder) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {
        resource.RLIMIT_AS: used + order.memory_bytes,
        resource.RLIMIT_CPU: order.cpu_seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main()
