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


class Level(Wire):
    """Limits of one level of the org's tree, root first; amounts in nano-dollars a month."""

    kind: Literal["umbrella", "org"]
    id: str
    time_zone: str = "UTC"
    suspended: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    soft_cap_nanousd: int | None = None
    hard_cap_nanousd: int | None = None


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
