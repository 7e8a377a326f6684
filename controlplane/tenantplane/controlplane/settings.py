"""Settings of the control plane, from TENANTPLANE_<NAME>."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from tenantplane.core.apis.common import Name
from tenantplane.core.db.settings import DatabaseSettings
from tenantplane.core.ids import API_KEY_PREFIX
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.core.settings import ServiceSettings


class BootstrapPlane(BaseModel):
    """A plane that is there from the first start, with the token that its data plane brings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name  # the data plane's TENANTPLANE_PLANE
    region: Name = "local"  # tenants of this region are placed on it
    # Base URL at which tenants reach the plane.
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=500)]
    enrolment_token: SecretStr  # at least 32 characters; the data plane's own setting

    @field_validator("enrolment_token")
    @classmethod
    def _is_long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < 32:
            raise ValueError("an enrolment token has at least 32 characters")
        return value


class ControlPlaneSettings(ServiceSettings):
    """What `serve` needs."""

    database: DatabaseSettings
    # The URL that planes and users reach; it is the `iss` of tokens and cannot be changed lightly.
    issuer: Annotated[str, Field(pattern=r"^https?://[^\s?#]+[^/\s?#]$")]
    master_key: SecretStr  # hex of 32 bytes; wraps the signing key in the database
    # Key of operator and CLI, put in force at each start: tpk_ and at least 36 more characters.
    bootstrap_platform_key: SecretStr | None = None
    # Data planes that are registered at start.
    bootstrap_planes: tuple[BootstrapPlane, ...] = ()

    # Life of tokens that /oauth/token makes. 15 minutes at most: a plane takes them unasked till then.
    access_token_seconds: Annotated[int, Field(ge=2, le=900)] = 900
    # How long an enrolment token that `tenantplane planes create` printed can be used.
    enrolment_token_seconds: Annotated[int, Field(ge=60, le=604_800)] = 86_400
    # How often each plane hears a signed beacon. It proves what time it is: a plane cut off counts its offline time from the last one.
    beacon_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 15.0
    # Longest silence on a plane's stream. Below the idle time-outs of common proxies (60 s and 30 s).
    heartbeat_interval_seconds: Annotated[float, Field(gt=0, le=30)] = 5.0
    # A replica not heard for so long no longer counts. Planes poll every 30 s at least: three times that, and a replica is gone.
    replica_live_seconds: Annotated[int, Field(ge=1, le=3600)] = 90
    # How often the control plane's own live database is checked; changes of its tables are seen sooner.
    isolation_check_seconds: Annotated[float, Field(gt=0, le=86_400)] = 3600.0
    # Larger requests are refused.
    max_body_bytes: Annotated[int, Field(ge=1024, le=16_777_216)] = 1_048_576
    # Longest wait for running requests at SIGTERM.
    graceful_shutdown_seconds: Annotated[int, Field(ge=1, le=300)] = 10
    # "development" lets org issuers be fetched over plain http from other hosts than this one.
    mode: Literal["production", "development"] = "production"
    # DEBUG, INFO, WARNING or ERROR.
    log_level: Annotated[str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"

    @field_validator("master_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr) -> SecretStr:
        LocalKeyProvider.from_hex(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _platform_key_has_the_form(self) -> Self:
        key = self.bootstrap_platform_key
        if key is not None and not _is_platform_key(key.get_secret_value()):
            raise ValueError(
                f"bootstrap_platform_key begins with {API_KEY_PREFIX} and has at least 40 characters"
            )
        return self


def _is_platform_key(text: str) -> bool:
    return text.startswith(API_KEY_PREFIX) and len(text) >= 40
