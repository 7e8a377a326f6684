"""Signed documents of the control plane, read and checked. Pure: what is refused is refused here."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tenantplane.core.apis.planes import SignedSnapshot
from tenantplane.core.apis.snapshot import BEACON_TYP, SNAPSHOT_TYP, Beacon, Snapshot
from tenantplane.core.errors import Unauthenticated
from tenantplane.core.identity.keyset import KeySet

REFUSED = "document_refused"

_Document = TypeVar("_Document", bound=BaseModel)


def read_snapshot(keys: KeySet, signed: SignedSnapshot, plane: str) -> Snapshot:
    """The snapshot inside `signed`.

    Raises Unauthenticated: a bad signature, another type of document, another plane's snapshot, or
    a cover that says another org or version than the signed text does.
    """
    snapshot = _read(Snapshot, keys.verify(signed.jws, SNAPSHOT_TYP))
    if (snapshot.org_id, snapshot.version) != (signed.org_id, signed.version):
        raise Unauthenticated("The snapshot is not the one that its cover names.", code=REFUSED)
    if snapshot.plane != plane:
        raise Unauthenticated(
            f"The snapshot is for plane {snapshot.plane!r}, not for {plane!r}.", code=REFUSED
        )
    if snapshot.status == "active" and not any(
        level.kind == "org" and level.id == snapshot.org_id for level in snapshot.levels
    ):
        # Without its own level an org would be admitted with no limit at all.
        raise Unauthenticated("The snapshot lacks the org's own limits.", code=REFUSED)
    for grant in snapshot.api_keys:
        if grant.expires_at is not None:
            _require_zone(grant.expires_at)
    return snapshot


def read_beacon(keys: KeySet, jws: str, plane: str) -> Beacon:
    """Raises Unauthenticated like `read_snapshot`."""
    beacon = _read(Beacon, keys.verify(jws, BEACON_TYP))
    if beacon.plane != plane:
        raise Unauthenticated(
            f"The beacon is for plane {beacon.plane!r}, not for {plane!r}.", code=REFUSED
        )
    _require_zone(beacon.issued_at)
    return beacon


def _read(kind: type[_Document], claims: dict[str, object]) -> _Document:
    try:
        return kind.model_validate(claims)
    except ValidationError as failed:
        fields = sorted({".".join(map(str, e["loc"])) for e in failed.errors(include_input=False)})
        raise Unauthenticated(
            f"The signed {kind.__name__} is not understood: {', '.join(fields)}.", code=REFUSED
        ) from None


def _require_zone(moment: datetime) -> None:
    # A time without a zone cannot be compared with the database's clock.
    if moment.tzinfo is None:
        raise Unauthenticated("A time in the signed document has no zone.", code=REFUSED)
