"""How a plane reaches its Valkey."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class ValkeySettings(BaseModel):
    """Nested in a component's settings: TENANTPLANE_VALKEY__URL and so on."""

    model_config = ConfigDict(frozen=True)

    # redis://:password@host:6379/0, rediss://… or unix://:password@/path/to/socket
    url: SecretStr
    # Time-out of one command. Admission stands in every request's way: a store slower than this is as good as absent (503).
    timeout_seconds: float = Field(default=1.0, gt=0, le=30)
    # Connections of one replica. One command takes some 50 µs of the server's one thread, so more connections would only queue
    # there instead of here.
    max_connections: int = Field(default=32, ge=1, le=1000)
