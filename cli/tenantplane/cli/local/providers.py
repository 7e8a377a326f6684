"""Which model answers: a real one where its key is there, else the scripted server."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

# Names of the example plans → the providers' own.
_OPENAI_MODEL = "gpt-4o-mini"
_ANTHROPIC_MODEL = "claude-3-5-haiku-latest"
EXAMPLE_MODEL = "assistant-1"


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """`settings` is TENANTPLANE_PROVIDERS; `scripted` says that no real model answers."""

    label: str
    settings: str
    scripted: bool


def choose(scripted_url: str, environment: Mapping[str, str] = os.environ) -> ProviderChoice:
    """OPENAI_API_KEY first, then ANTHROPIC_API_KEY, then the scripted model server."""
    if key := environment.get("OPENAI_API_KEY"):
        base = environment.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
        return _real("OpenAI", base, key, _OPENAI_MODEL)
    if key := environment.get("ANTHROPIC_API_KEY"):
        # docs.anthropic.com, "OpenAI SDK compatibility"
        return _real("Anthropic", "https://api.anthropic.com/v1", key, _ANTHROPIC_MODEL)
    settings = {"default": {"base_url": scripted_url}}
    return ProviderChoice("the scripted model server", json.dumps(settings), True)


def _real(label: str, base_url: str, key: str, model: str) -> ProviderChoice:
    provider = {"base_url": base_url, "api_key": key, "model_map": {EXAMPLE_MODEL: model}}
    return ProviderChoice(f"{label} ({model})", json.dumps({"default": provider}), False)
