"""Bounds of one tool call."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ToolLimits(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # Longest run of one tool call: a person waits behind it.
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 20.0
    # Longest answer of a tool; more is cut. It all goes into the next prompt: about 16,000 tokens.
    output_bytes: Annotated[int, Field(ge=1, le=1_048_576)] = 65_536
