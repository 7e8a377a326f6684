"""What the control plane signs and the planes obey: per org a snapshot, per plane a beacon."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from tenantplane.core.apis.common import Wire

SNAPSHOT_TYP = "tp-snapshot+jwt"
BEACON_TYP = "tp-beacon+jwt"


class LevelLimits(Wire):
    """Limits of one account holder; amounts in nano-dollars. `shadow`: they report and refuse
    nothing."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_calls: int | None = None
    soft_cap_nanousd: int | None = None  # a month
    hard_cap_nanousd: int | None = None
    day_soft_cap_nanousd: int | None = None
    day_hard_cap_nanousd: int | None = None
    shadow: bool = False


class CapRaise(Wire):
    """More room under the caps of one level for a time: a temporary raise, or a top-up of a period
    that ends with it. Negative amounts do not exist: lower the cap itself."""

    raise_id: str
    period: Literal["day", "month"]
    extra_nanousd: int = Field(ge=1)
    begins_at: datetime
    ends_at: datetime


class Level(LevelLimits):
    """Limits of one org of the tree, root first."""

    kind: Literal["umbrella", "org"]
    id: str
    time_zone: str = "UTC"
    suspended: bool = False
    raises: tuple[CapRaise, ...] = ()


class RunBounds(Wire):
    """Bounds of each agent run; None does not bound."""

    steps: int | None = None
    seconds: int | None = None
    cost_nanousd: int | None = None


class RoleBound(Wire):
    """Something on the org's list that only holders of one of `roles` may use."""

    kind: Literal["tool", "model", "prompt", "data_source"]
    name: str
    roles: tuple[str, ...]


class PromptGrant(Wire):
    """A prompt that the org may use, in the version that is in force for it."""

    name: str
    version: int = Field(ge=1)
    text: str


class ModelGrant(Wire):
    """A model that the org may use, at its selling price in nano-dollars a token.

    `kind` says what it is called for; `dimensions` is the length of an embedding model's vectors.
    """

    name: str
    kind: Literal["chat", "embedding"] = "chat"
    dimensions: int | None = Field(default=None, ge=1, le=4000)
    provider: str
    upstream_model: str
    input_nanousd_per_token: int = Field(ge=0)
    output_nanousd_per_token: int = Field(ge=0)
    # Where absent they cost as input or output does.
    cached_input_nanousd_per_token: int | None = Field(default=None, ge=0)
    reasoning_nanousd_per_token: int | None = Field(default=None, ge=0)
    # An image of the prompt: its price, and the most tokens that it counts for. None: no images.
    image_nanousd: int | None = Field(default=None, ge=0)
    # Models to try next where the provider is in trouble, in this order; each is granted too.
    fallbacks: tuple[str, ...] = ()
    max_output_tokens: int = Field(ge=1)
    context_tokens: int = Field(ge=1)


class ApiKeyGrant(Wire):
    """A machine's key, known by its hash alone. `scopes` None: everything the org may do."""

    key_id: str
    sha256_hex: str
    user_id: str
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None


class Snapshot(Wire):
    """All that a plane needs to serve one org. A plane accepts only rising versions."""

    org_id: str
    root_org_id: str
    version: int = Field(ge=1)
    issued_at: datetime
    status: Literal["active", "suspended", "deleted"]
    plane: str
    region: str
    plan: str
    token_epoch: int
    max_offline_seconds: int = Field(ge=900, le=86_400)
    price_book_version: int
    levels: tuple[Level, ...]
    tools: tuple[str, ...] = ()
    models: tuple[ModelGrant, ...] = ()
    data_sources: tuple[str, ...] = ()
    prompts: tuple[PromptGrant, ...] = ()
    role_bound: tuple[RoleBound, ...] = ()
    per_user: LevelLimits | None = None
    per_key: LevelLimits | None = None
    per_run: RunBounds | None = None
    # Set by whoever acknowledges excesses: one of a call before this time stops nothing.
    on_provider_excess: Literal["halt", "continue"] = "halt"
    excess_acknowledged_until: datetime | None = None
    # What a tool call costs, by tool; a tool that is not here is free of charge.
    tool_nanousd: dict[str, int] = Field(default_factory=dict)
    api_keys: tuple[ApiKeyGrant, ...] = ()

    def model_grant(self, name: str) -> ModelGrant | None:
        return next((m for m in self.models if m.name == name), None)


class Beacon(Wire):
    """Short-lived word of the control plane: what time it is, and which versions are in force."""

    plane: str
    sequence: int
    issued_at: datetime
    orgs: int
    versions_sha256: str


def versions_digest(versions: Mapping[str, int]) -> str:
    """SHA-256 in hex over `org_id SP version LF`, sorted by org_id."""
    lines = "".join(f"{org} {versions[org]}\n" for org in sorted(versions))
    return hashlib.sha256(lines.encode()).hexdigest()
