"""What a plane's operator says of each model provider. Docs: docs/how-to/providers.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr

from tenantplane.dataplane.models.vocabularies import Vocabulary


class ProviderSettings(BaseModel):
    """One provider. `model_map` maps a grant's upstream model to the provider's name of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: HttpUrl  # of an API like OpenAI's; ends in /v1
    api_key: SecretStr | None = None  # sent as a bearer token; none where absent
    # Upstream model of a plan → the provider's name for it; the same name where absent.
    model_map: dict[str, str] = Field(default_factory=dict)
    # Upstream model → the vocabulary that its prompts are counted with; by their bytes where absent.
    tokenizers: dict[str, Vocabulary] = Field(default_factory=dict)
    # The whole call, streaming included; the hold outlives it.
    timeout_seconds: Annotated[float, Field(gt=0, le=1800)] = 300.0
    # Until a connection stands.
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    # From the request to the first byte of its answer. An answer that is not streamed begins when it is whole.
    first_byte_timeout_seconds: Annotated[float, Field(gt=0, le=1800)] = 120.0
    # Longest silence between two pieces of an answer that has begun.
    idle_timeout_seconds: Annotated[float, Field(gt=0, le=1800)] = 120.0
    # Calls at once of all orgs: one pool a provider and replica.
    connections: Annotated[int, Field(ge=1, le=10_000)] = 512
    # Calls at once of one org. A quarter of the pool: no org can fill it.
    connections_per_org: Annotated[int, Field(ge=1, le=10_000)] = 128
    # Longest wait for one's turn in the pool; then 503 provider_busy. Nothing is held meanwhile.
    queue_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    # Field of the request that bounds the answer. OpenAI's reasoning models refuse the old name; some self-hosted servers know only the old one.
    output_limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    # Repeats of one model within one call, where the error is one that passes.
    retries: Annotated[int, Field(ge=0, le=5)] = 2
    # Repeats as a part of all calls: with a tenth, an outage makes the provider's load larger by a tenth at most.
    retry_budget_percent: Annotated[float, Field(ge=0, le=100)] = 10.0
    # Whether a call that may have been billed (time-out, broken answer) is made once more: the org pays for both.
    repeat_billed_calls: bool = False
    # Whether the provider charges for calls that it answers with an error of its own (5xx). OpenAI and Anthropic do not.
    bills_failed_calls: bool = False
    # An org's calls pause when so many of its recent ones failed.
    breaker_failure_percent: Annotated[float, Field(gt=0, le=100)] = 50.0
    # Fewer recent calls say nothing.
    breaker_least_calls: Annotated[int, Field(ge=1, le=10_000)] = 10
    # How long a call counts as recent, at most; at least half as long.
    breaker_window_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    # How long a pause is, and how often a single call tries whether it can end.
    breaker_open_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
