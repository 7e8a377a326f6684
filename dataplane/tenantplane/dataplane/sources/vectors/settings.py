"""Where the library changes from an exact scan to an index, and how its indexer works."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class VectorSettings(BaseModel):
    """Sizes are chunks of one tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A tenant with so many chunks gets indexes of its own; below, each search reads all its vectors. (Where an index is as fast as a scan was measured: 6,000; at 12,000 it is four times as fast, and costs a millisecond for each chunk once.)
    index_from_chunks: int = Field(default=10_000, ge=1)
    # Chunks moved to a tenant's own index in one transaction; its writers wait for it.
    move_batch_chunks: int = Field(default=250, ge=1, le=5_000)
    # Pause between the indexer's looks at what is to be moved.
    index_seconds: float = Field(default=5, gt=0, le=3600)
