"""How much of a long stream is held at a time.

An answer of a hundred thousand tokens would block a budget for as long as it streams if all that it
can cost were held at once (F30). A stream is held for a slice of its limit first, and for more as
it goes on; where there is no more, we cut it. The provider was told the whole limit, and writes on
until it notices that we closed: that is ours to bear, so a stream is cut `margin_tokens` before its
hold ends, a second and more of what models write.

This only holds for tokens that can be seen. A model that thinks unseen may have used its whole limit
before its first word, so its whole limit is held: where its grant has a price for thought, where
the request asks for it, and from the first time on that its provider reports more tokens than the
answer had bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.dataplane.models.prices import TokenCount

# Past it nothing is known of any model, and each stream is held for as a whole.
_MOST_MODELS: Final = 10_000
# Tokens that end a turn have no text.
_SILENT_TOKENS: Final = 16
_ASKS_FOR_THOUGHT: Final = frozenset({"reasoning_effort", "reasoning", "thinking"})


@dataclass(slots=True)
class Slices:
    """Shared by all requests of a process, which learn from each other's streams."""

    slice_tokens: int = 4096
    margin_tokens: int = 256
    _think_unseen: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not 0 < self.margin_tokens <= self.slice_tokens // 4:
            raise ValueError("margin_tokens must be above 0, at most a quarter of slice_tokens")

    def first(self, grant: ModelGrant, options: Mapping[str, Any], limit: int) -> int:
        """Tokens of an answer that are held for before its stream begins."""
        whole = (
            grant.reasoning_nanousd_per_token is not None
            or not _ASKS_FOR_THOUGHT.isdisjoint(options)
            or len(self._think_unseen) >= _MOST_MODELS
            or (grant.provider, grant.upstream_model) in self._think_unseen
        )
        return limit if whole else min(limit, self.slice_tokens)

    def learn(self, grant: ModelGrant, reported: TokenCount, produced_bytes: int) -> None:
        """From a report of the provider that can be true."""
        unseen = reported.output_tokens > produced_bytes + _SILENT_TOKENS
        if unseen and len(self._think_unseen) < _MOST_MODELS:
            self._think_unseen.add((grant.provider, grant.upstream_model))


@dataclass(slots=True)
class Cover:
    """Of one stream: what of its answer is held for. Pure.

    `limit` is what the provider was told, `held` how much of it the hold pays for; equal where the
    provider's own limit ends the answer in time.
    """

    limit: int
    held: int
    slice_tokens: int
    margin_tokens: int
    _asked_at: int = -1

    @classmethod
    def of(cls, slices: Slices, *, limit: int, first: int, held: int) -> Cover:
        """`first` is what was asked for: where less was given the cap is near, and the provider
        is told of no more than that."""
        told = limit if held >= first else held
        return cls(told, held, slices.slice_tokens, slices.margin_tokens)

    def allows(self, produced: int) -> bool:
        """Whether a stream that has produced so many tokens may go on."""
        return self.held >= self.limit or produced + self.margin_tokens <= self.held

    def wants_more(self, produced: int) -> bool:
        """Whether to ask for more now, so that it is there before the stream needs it: when half a
        slice is left, and again a quarter of a slice later where there was nothing."""
        if self.held >= self.limit or produced + self.slice_tokens // 2 <= self.held:
            return False
        return self._asked_at < 0 or produced >= self._asked_at + self.slice_tokens // 4

    def ask(self, produced: int) -> tuple[int, int]:
        """The tokens to hold for in all: as many as wanted, and the fewest that are of use."""
        self._asked_at = produced
        # One piece may be larger than a slice.
        wanted = min(self.limit, max(self.held, produced) + self.slice_tokens)
        return wanted, min(wanted, self.held + self.margin_tokens)

    def got(self, held: int) -> None:
        if held > self.held:
            self.held, self._asked_at = held, -1
