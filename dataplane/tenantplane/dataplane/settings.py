"""What a data plane's process reads from its environment (TENANTPLANE_…)."""

from __future__ import annotations

import re
import secrets
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from tenantplane.core.apis.common import Name
from tenantplane.core.db.query import QueryLimits
from tenantplane.core.db.settings import DatabaseSettings
from tenantplane.core.settings import ServiceSettings
from tenantplane.core.valkey.settings import ValkeySettings
from tenantplane.dataplane.gate.idempotency_settings import IdempotencySettings
from tenantplane.dataplane.models.providers import ProviderSettings
from tenantplane.dataplane.runtime.settings import RuntimeSettings
from tenantplane.dataplane.sources.documents.settings import DocumentsSettings
from tenantplane.dataplane.sources.vectors.settings import VectorSettings

_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$", max_length=500)]


class PeeringSettings(BaseModel):
    """How the plane follows its control plane. Tests scale these down."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # How often the plane asks for changes besides the stream. Well under the 60 s in which a suspension must arrive where the stream is down (R16).
    poll_seconds: float = Field(default=30, gt=0, le=60)
    # Time-out of one request to the control plane.
    timeout_seconds: float = Field(default=10, gt=0, le=60)
    # A stream silent for so long is opened anew. The control plane sends a beacon every 15 s: three missed mean a dead connection.
    stream_silence_seconds: float = Field(default=45, gt=0, le=300)
    # Unknown key ids fetch the control plane's keys at most this often (F6).
    keys_cool_down_seconds: float = Field(default=10, gt=0, le=3600)
    # How often the control plane's keys are fetched anew: a withdrawn key dies here at the latest.
    keys_refresh_seconds: float = Field(default=300, gt=0, le=3600)
    # How often the plane's live database is checked and the control plane told (condition IsolationVerified); changes of its tables are seen sooner.
    isolation_check_seconds: float = Field(default=3600, gt=0, le=86_400)
    # Longest pause between attempts to reach a control plane that is away.
    longest_pause_seconds: float = Field(default=15, gt=0, le=60)


class DataPlaneSettings(ServiceSettings):
    """Root of the data plane's settings."""

    database: DatabaseSettings
    valkey: ValkeySettings
    master_key: SecretStr  # hex of 32 bytes; wraps the plane's key and the orgs' data keys
    control_plane_url: HttpUrl  # base URL of the control plane's API
    plane: Name  # this plane's name, as the control plane registered it
    enrolment_token: SecretStr | None = None  # needed until the plane has enrolled once
    # Model providers by name; a plan's model names one, `default` where it says nothing.
    providers: dict[Name, ProviderSettings] = Field(default_factory=dict)
    # Names this process (drawn at each start where absent) in the control plane's list of replicas that applied a change.
    replica: str = Field(
        default_factory=lambda: secrets.token_hex(8), pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]{0,62}$"
    )
    peering: PeeringSettings = Field(default_factory=PeeringSettings)
    # Bounds of agent runs and of their tools.
    runtime: RuntimeSettings = Field(default_factory=RuntimeSettings)
    # Bounds of uploaded documents.
    documents: DocumentsSettings = Field(default_factory=DocumentsSettings)
    # When a tenant's vectors get an index of their own.
    vectors: VectorSettings = Field(default_factory=VectorSettings)
    # Bounds of one query that a model wrote for a SQL source.
    sql: QueryLimits = Field(default_factory=QueryLimits)
    # How long requests with an Idempotency-Key are remembered.
    idempotency: IdempotencySettings = Field(default_factory=IdempotencySettings)
    # How often calls past their deadline, as of a process that died, are settled as estimated.
    sweep_seconds: float = Field(default=5, gt=0, le=3600)
    # How often usage and audit entries are sent to the control plane.
    ship_seconds: float = Field(default=1, gt=0, le=3600)
    # Larger requests are refused with 400 body_too_large.
    body_limit_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    # Longest drain of running requests at SIGTERM; what is left then is cut and swept.
    drain_seconds: int = Field(default=30, ge=0, le=3600)
    # DEBUG, INFO, WARNING or ERROR.
    log_level: str = Field(default="INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")

    @field_validator("master_key")
    @classmethod
    def _is_32_bytes(cls, value: SecretStr) -> SecretStr:
        if not _HEX_KEY.fullmatch(value.get_secret_value()):
            raise ValueError("must be 64 hexadecimal digits (32 random bytes)")
        return value

    def master_key_bytes(self) -> bytes:
        return bytes.fromhex(self.master_key.get_secret_value())
