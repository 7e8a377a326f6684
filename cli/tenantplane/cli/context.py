"""Which control plane the CLI talks to, and as whom.

TENANTPLANE_CONTROL_PLANE_URL and TENANTPLANE_PLATFORM_KEY, else the file that TENANTPLANE_CONTEXT
names, else ~/.config/tenantplane/context.json: {"control_plane_url": …, "platform_key": …}.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from tenantplane.core.errors import ConfigurationRefused
from tenantplane.core.registry import RegistryClient


class Context(BaseModel):
    """Where the control plane is. The key never shows in a repr."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    control_plane_url: str
    platform_key: SecretStr

    def registry(self) -> RegistryClient:
        return RegistryClient(self.control_plane_url, self.platform_key)

    def write(self, path: Path) -> None:
        """Readable by its owner alone."""
        fields = {
            "control_plane_url": self.control_plane_url,
            "platform_key": self.platform_key.get_secret_value(),
        }
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(json.dumps(fields))


def with_registry(work: Callable[[RegistryClient], Awaitable[None]]) -> None:
    """Runs a command's work at the control plane of the context."""

    async def run() -> None:
        async with load().registry() as registry:
            await work(registry)

    asyncio.run(run())


def default_path() -> Path:
    named = os.environ.get("TENANTPLANE_CONTEXT")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "tenantplane" / "context.json"


def load() -> Context:
    """Raises ConfigurationRefused that says how to name a control plane."""
    url = os.environ.get("TENANTPLANE_CONTROL_PLANE_URL")
    key = os.environ.get("TENANTPLANE_PLATFORM_KEY")
    if url and key:
        return Context(control_plane_url=url, platform_key=SecretStr(key))
    path = default_path()
    try:
        return Context.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise ConfigurationRefused(
            f"No control plane is named, and {path} does not exist.",
            hint="Start one with `make dev` and export the TENANTPLANE_CONTEXT that it prints, or "
            "set TENANTPLANE_CONTROL_PLANE_URL and TENANTPLANE_PLATFORM_KEY.",
        ) from None
    except (ValidationError, ValueError):
        raise ConfigurationRefused(
            f"{path} is not a context: it needs control_plane_url and platform_key."
        ) from None
