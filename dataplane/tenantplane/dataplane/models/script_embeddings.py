"""What the scripted model answers to OpenAI's `/v1/embeddings`: a pure function of the request.

Vectors are those of models/hashing.py, turned by the model's name: texts with common words are near
each other within a model, and vectors of two models have nothing in common. A cue `[[fault:NAME]]`
in a text asks for a fault, as in chat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from tenantplane.dataplane.models.hashing import DIMENSIONS, hash_text

# Besides 400, 429, 500 and hang, which chat has too.
EMBEDDING_FAULTS: Final = frozenset(
    {
        "embedding-short",  # a vector less than there were texts
        "embedding-dimensions",  # vectors of another length
        "embedding-nan",
        "embedding-zero",  # a vector without a direction
        "embedding-twice",  # one index twice
        "embedding-shuffled",  # good, and in another order: `index` says which
        "embedding-usage-none",
        "embedding-usage-negative",
    }
)
_SHARED: Final = frozenset({"400", "429", "500", "hang"})
_FAULT = re.compile(r"\[\[fault:([a-z0-9-]+)\]\]")


def embedding_fault(body: Mapping[str, Any]) -> str | None:
    """The fault of a cue in the texts."""
    for text in _texts(body):
        found = _FAULT.search(text)
        if found and found.group(1) in EMBEDDING_FAULTS | _SHARED:
            return found.group(1)
    return None


def embeddings(body: Mapping[str, Any], fault: str | None = None) -> dict[str, Any]:
    """The answer. Raises ValueError, LookupError or TypeError for what is no such request."""
    texts, model = _texts(body), str(body["model"])
    length = int(body.get("dimensions") or DIMENSIONS)
    length += fault == "embedding-dimensions"
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, model, length)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(len(text.split()) + 1 for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "model": model, "data": _spoilt(data, fault)}
    if fault == "embedding-usage-none":
        return answer
    if fault == "embedding-usage-negative":
        usage["prompt_tokens"] = -tokens
    return answer | {"usage": usage}


def _spoilt(data: list[dict[str, Any]], fault: str | None) -> list[dict[str, Any]]:
    match fault:
        case "embedding-short":
            return data[:-1]
        case "embedding-nan":
            data[-1]["embedding"][0] = float("nan")
        case "embedding-zero":
            data[-1]["embedding"] = [0.0] * len(data[-1]["embedding"])
        case "embedding-twice":
            data[-1]["index"] = max(0, len(data) - 2)
        case "embedding-shuffled":
            return data[::-1]
    return data


def _vector(text: str, model: str, length: int) -> list[float]:
    vector = hash_text(text, length)
    digest = blake2b(model.encode(), digest_size=4).digest()
    turn = int.from_bytes(digest, "big") % length
    return vector[turn:] + vector[:turn]


def _texts(body: Mapping[str, Any]) -> list[str]:
    given = body["input"]
    texts = [given] if isinstance(given, str) else list(given)
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("input: texts")
    return texts
