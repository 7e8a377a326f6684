"""Rows of planes as the service reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tenantplane.core.apis.planes import SignedSnapshot


@dataclass(frozen=True, slots=True)
class PlaneRow:
    """A plane; `public_jwk` is None until it has enrolled."""

    name: str
    region: str
    endpoint: str
    kind: str
    public_jwk: dict[str, str] | None
    enrolled_at: datetime | None


@dataclass(frozen=True, slots=True)
class TokenRow:
    """An enrolment token. `burnt_for` is the thumbprint of the key that used it."""

    plane: str
    expired: bool
    burnt_for: str | None


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A signed snapshot on its way into the database."""

    org_id: str
    root_org_id: str
    plane: str
    version: int
    status: str
    digest: bytes
    jws: str


@dataclass(frozen=True, slots=True)
class ChangedSnapshots:
    """A page of changes, and every version in force on the plane at that instant."""

    cursor: int
    more: bool
    snapshots: tuple[SignedSnapshot, ...]
    versions: Mapping[str, int]
