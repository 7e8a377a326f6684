"""Bounds of agent runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tenantplane.dataplane.tools.limits import ToolLimits


class RuntimeSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # Model calls of one run at most. LangGraph's own default allows 25 steps; people give up before.
    max_model_calls: Annotated[int, Field(ge=1, le=1000)] = 25
    # Tool calls in one answer of the model. More is a model gone astray; each is still answered, with a refusal.
    max_tool_calls_per_answer: Annotated[int, Field(ge=1, le=128)] = 16
    # A run that died frees its thread after this; a live one renews at a third of it.
    thread_claim_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    # Newest checkpoints kept of each thread once a run has ended; at most a quarter more for a while. A turn of an agent makes about ten, and going back further than some turns is rare.
    checkpoints_kept: Annotated[int, Field(ge=1, le=10_000)] = 200
    # Threads that no run touched for so many days are deleted, with all their state. None keeps them for ever: how long conversations are kept is their owner's to say.
    thread_ttl_days: float | None = Field(default=None, gt=0, le=36_500)
    # How often threads and stored items past their time are looked for.
    retention_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    tools: ToolLimits = ToolLimits()
