"""What identity reads and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

KeyKind = Literal["platform", "org", "unknown"]

ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 (a name)


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose a key is; `name` is that of a platform's key."""

    kind: KeyKind
    name: str = ""


@dataclass(frozen=True, slots=True)
class WrappedSigningKey:
    """The signing key as the database has it: PEM under a data key, that under the master key."""

    kid: str
    wrapped_private: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)


class TokenAnswer(BaseModel):
    """RFC 6749 section 5.1, and RFC 8693 section 2.2.1 for an exchange."""

    model_config = ConfigDict(frozen=True)

    access_token: str = Field(repr=False)
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 (a name)
    expires_in: int
    issued_token_type: str | None = None
