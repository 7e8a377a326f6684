"""Settings come from the environment: TENANTPLANE_<NAME>, nested by two underscores.

Each component's `settings.py` declares its own fields; a field without a default is required.
"""

from __future__ import annotations

from typing import Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tenantplane.core.errors import ConfigurationRefused

ENV_PREFIX = "TENANTPLANE_"
NESTED = "__"


class ServiceSettings(BaseSettings):
    """Root of every component's settings."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter=NESTED, extra="ignore", frozen=True
    )

    @classmethod
    def from_environment(cls) -> Self:
        """Raises ConfigurationRefused that names each bad variable, never its value."""
        try:
            return cls()
        except ValidationError as error:
            faults = "; ".join(
                f"{ENV_PREFIX}{NESTED.join(map(str, e['loc'])).upper()} ({e['msg']})"
                for e in error.errors(include_input=False, include_url=False)
            )
            raise ConfigurationRefused(
                f"The environment does not configure this service: {faults}.",
                hint="Set the variables named; docs/configuration.md lists them all.",
            ) from None
