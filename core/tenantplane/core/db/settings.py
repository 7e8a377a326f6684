"""What a service must know to reach its logical database."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class DatabaseSettings(BaseModel):
    """One logical database as its running service sees it: never the owner's DSN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    app_dsn: SecretStr  # libpq DSN of the role app: tenant-scoped work, under RLS
    system_dsn: SecretStr  # libpq DSN of the role system: named cross-tenant jobs
    # DSN for LISTEN; system_dsn where absent. LISTEN needs a session of its own: behind a transaction-mode pooler, name the server itself.
    listen_dsn: SecretStr | None = None
    # Name of the key that signs the tenant context; another key needs another name.
    context_key_id: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
    context_key: SecretStr  # hex of 32 bytes, the same that `bootstrap` or `migrate` installed
    # Sessions that each of the two roles keeps open.
    pool_min: Annotated[int, Field(ge=0, le=100)] = 1
    # Sessions at most, for each of the two roles. Two cores saturate well below ten busy sessions; more only queue inside Postgres instead.
    pool_max: Annotated[int, Field(ge=1, le=200)] = 10
    # How long a request waits for a session before it is 503. Longer than a hiccup of the server, shorter than a client's patience.
    pool_wait_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    prepared_statements: bool = True  # False behind PgBouncer older than 1.21 (transaction mode)

    @field_validator("context_key")
    @classmethod
    def _is_32_bytes(cls, value: SecretStr) -> SecretStr:
        if not _HEX_KEY.fullmatch(value.get_secret_value()):
            raise ValueError("context_key must be 64 hexadecimal digits (32 random bytes)")
        return value

    def context_key_bytes(self) -> bytes:
        """The 32 bytes of the signing key."""
        return bytes.fromhex(self.context_key.get_secret_value())

    @property
    def prepare_threshold(self) -> int | None:
        """psycopg's `prepare_threshold`: prepare at the fifth use, or never."""
        return 5 if self.prepared_statements else None
