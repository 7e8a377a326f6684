"""What each org may do, from its signed snapshot: in process, so a warm request makes no hop.

Every snapshot of the plane is pushed here and kept in Postgres, so this copy is never a miss; the
copy in Valkey that the design names between process and control plane would have nothing to add.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tenantplane.core.apis.snapshot import ApiKeyGrant, Beacon, Snapshot
from tenantplane.core.errors import (
    DependencyUnavailable,
    NotFound,
    OfflineTooLong,
    Suspended,
    Unauthenticated,
)
from tenantplane.core.tenancy import TenantContext

_RETRY_UNSYNCED_SECONDS = 2.0
_RETRY_OFFLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _InForce:
    """A snapshot, and what each request asks of it, looked for once."""

    snapshot: Snapshot
    suspended_org_id: str | None  # itself or an org above it
    key_ids: frozenset[str]

    @classmethod
    def of(cls, snapshot: Snapshot) -> _InForce:
        suspended = [level.id for level in snapshot.levels if level.suspended]
        if snapshot.status == "suspended":
            suspended.append(snapshot.org_id)
        key_ids = frozenset(grant.key_id for grant in snapshot.api_keys)
        return cls(snapshot, suspended[0] if suspended else None, key_ids)


@dataclass(frozen=True, slots=True)
class HeardBeacon:
    """A verified beacon and when it came, on this plane's database clock."""

    beacon: Beacon
    received_at: datetime

    def as_of(self) -> datetime:
        """The moment the control plane is known to have spoken.

        Never later than the receipt: an issuer whose clock runs ahead, or a beacon kept back,
        must not lengthen the offline time.
        """
        return min(self.beacon.issued_at, self.received_at)


class Entitlements:
    """The snapshots in force on this plane, by org and by API key.

    `now` is the database's clock. Versions and sequences only ever rise here, whoever calls.
    `require_isolation` raises while the live database does not pass its check: then no snapshot is
    in force, neither for a new request nor for the next call of a run that is under way.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        require_isolation: Callable[[], None] = lambda: None,
    ) -> None:
        self._now = now
        self._require_isolation = require_isolation
        self._in_force: dict[str, _InForce] = {}
        self._keys: dict[str, tuple[str, ApiKeyGrant]] = {}
        self._beacon: HeardBeacon | None = None
        self._spoke_at: datetime | None = None  # `as_of` of the beacon

    def install(self, snapshot: Snapshot) -> bool:
        """Puts a verified snapshot in force; False where it is not newer than the one held."""
        in_force = self._in_force.get(snapshot.org_id)
        held = in_force.snapshot if in_force else None
        if held is not None and snapshot.version <= held.version:
            return False
        for grant in held.api_keys if held else ():
            # A secret has one owner: what another org holds under the same hash is left alone.
            if self._keys.get(grant.sha256_hex, ("", grant))[0] == snapshot.org_id:
                del self._keys[grant.sha256_hex]
        self._in_force[snapshot.org_id] = _InForce.of(snapshot)
        for grant in snapshot.api_keys:
            self._keys.setdefault(grant.sha256_hex, (snapshot.org_id, grant))
        return True

    def hear(self, heard: HeardBeacon) -> bool:
        """Takes a verified beacon; False where its sequence does not rise."""
        if self._beacon and heard.beacon.sequence <= self._beacon.beacon.sequence:
            return False
        self._beacon, self._spoke_at = heard, heard.as_of()
        return True

    def version_of(self, org_id: str) -> int:
        """The version in force, 0 where the org is not on this plane."""
        held = self._in_force.get(org_id)
        return held.snapshot.version if held else 0

    def versions(self) -> dict[str, int]:
        return {org: held.snapshot.version for org, held in self._in_force.items()}

    def roots(self) -> frozenset[str]:
        """Root orgs of all that this plane knows: suspended and deleted ones have calls to end."""
        return frozenset(held.snapshot.root_org_id for held in self._in_force.values())

    def beacon_age_seconds(self) -> float | None:
        """Seconds since the control plane last spoke; None where it never did."""
        if self._spoke_at is None:
            return None
        return (self._now() - self._spoke_at).total_seconds()

    def require_synced(self) -> None:
        """Raises DependencyUnavailable before the first word of the control plane: until then an
        unknown key says nothing about the key."""
        if self._beacon is None:
            raise DependencyUnavailable(
                "This plane has not yet received its entitlements.",
                hint="Try again; if it lasts, see /readyz of the plane.",
                code="plane_not_synced",
                retry_after_seconds=_RETRY_UNSYNCED_SECONDS,
            )

    def key_owner(self, sha256_hex: str) -> tuple[str, ApiKeyGrant] | None:
        """Org and grant of an API key, by its hash. Expiry is the caller's to check.

        A plain lookup: how long it takes tells at most something about a SHA-256 value, from
        which nobody gets to another secret.
        """
        return self._keys.get(sha256_hex)

    def current(self, org_id: str) -> Snapshot:
        """The snapshot to serve `org_id` by.

        Raises NotFound (not on this plane, or deleted), Suspended (it, or an org above it),
        OfflineTooLong (the control plane has been silent for longer than the org allows), and
        DependencyUnavailable before the first sync, and while isolation is not verified.
        """
        return self._current(org_id).snapshot

    def standing(self, caller: TenantContext) -> Snapshot:
        """The snapshot in force for a caller that was let in before: asked again at each call of a
        run, which may outlive a suspension by an hour.

        Raises as `current`, and Unauthenticated where the caller's key was revoked meanwhile.
        """
        held = self._current(caller.org_id)
        if caller.key_id is not None and caller.key_id not in held.key_ids:
            raise Unauthenticated(
                f"The API key {caller.key_id} was revoked while its request ran.",
                hint="What was done until then is recorded; go on with another key.",
                code="api_key_revoked",
            )
        return held.snapshot

    def _current(self, org_id: str) -> _InForce:
        self._require_isolation()
        self.require_synced()
        held = self._in_force.get(org_id)
        if held is None or held.snapshot.status == "deleted":
            raise NotFound(f"Org {org_id!r} is not served here.", code="org_not_found")
        self._require_fresh(held.snapshot)
        if held.suspended_org_id is not None:
            raise Suspended(
                f"Org {held.suspended_org_id!r} is suspended.",
                hint="Its platform can resume it.",
            )
        return held

    def _require_fresh(self, snapshot: Snapshot) -> None:
        age = self.beacon_age_seconds()
        if age is None or age > snapshot.max_offline_seconds:
            raise OfflineTooLong(
                f"This plane has not heard from its control plane for longer than the"
                f" {snapshot.max_offline_seconds} s that org {snapshot.org_id!r} allows.",
                hint="Requests are served again as soon as the planes are connected.",
                retry_after_seconds=_RETRY_OFFLINE_SECONDS,
            )
