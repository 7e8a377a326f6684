"""Secrets of a local stack: made once, kept in one file that only its owner reads."""

from __future__ import annotations

import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tenantplane.core import ids


def _hex() -> str:
    return secrets.token_hex(32)


def _token() -> str:
    return secrets.token_urlsafe(24)


class RoleSecrets(BaseModel):
    """Passwords of one logical database's roles, and the key of its tenant context."""

    model_config = ConfigDict(frozen=True)

    owner: str = Field(default_factory=_token, repr=False)
    app: str = Field(default_factory=_token, repr=False)
    system: str = Field(default_factory=_token, repr=False)
    backup: str = Field(default_factory=_token, repr=False)
    context_key: str = Field(default_factory=_hex, repr=False)


class StackSecrets(BaseModel):
    """All secrets of a local stack."""

    model_config = ConfigDict(frozen=True)

    control: RoleSecrets = Field(default_factory=RoleSecrets)
    data: RoleSecrets = Field(default_factory=RoleSecrets)
    control_master_key: str = Field(default_factory=_hex, repr=False)
    data_master_key: str = Field(default_factory=_hex, repr=False)
    platform_key: str = Field(default_factory=ids.new_api_key, repr=False)
    enrolment_token: str = Field(default_factory=_token, repr=False)

    @classmethod
    def of(cls, path: Path) -> StackSecrets:
        """Those of `path`, made on the first call."""
        if path.exists():
            return cls.model_validate_json(path.read_text())
        made = cls()
        path.touch(mode=0o600)
        path.write_text(made.model_dump_json())
        return made
