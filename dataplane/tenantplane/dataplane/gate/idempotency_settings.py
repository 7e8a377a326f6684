"""How long requests with an Idempotency-Key are remembered."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class IdempotencySettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # How long an answer is given again. Clients try again for minutes; a day covers a queue that stood still over night.
    keep_hours: float = Field(default=24, gt=0, le=720)
    # A request whose process died is reported as interrupted after this; a live process renews it at a third of it.
    lease_seconds: float = Field(default=30, gt=0, le=3600)
    # Larger answers are not kept (409 response_not_kept). Each request with a key holds so much memory at most.
    largest_answer_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    # How often answers past their time are looked for.
    retention_seconds: float = Field(default=300, gt=0, le=86_400)
