"""Planes: where orgs are placed, what planes are told, and how they prove who they are.

Services never commit: the caller's transaction is the unit of work.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes import repository
from tenantplane.controlplane.planes.public_key import public_key
from tenantplane.controlplane.planes.schemas import ChangedSnapshots, PlaneRow, StoredSnapshot
from tenantplane.controlplane.security import security_event
from tenantplane.core.apis.planes import EnrollRequest, IsolationReport
from tenantplane.core.apis.registry import PlaneCreated, PlaneRequest, PlaneView
from tenantplane.core.apis.snapshot import BEACON_TYP, Beacon, Level, versions_digest
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.errors import (
    FieldError,
    Forbidden,
    NotFound,
    Unauthenticated,
    Unprocessable,
)
from tenantplane.core.keys.signing import SigningKey

CHANGED_CHANNEL: Final = "controlplane_changed"
# A replica that is gone for a day comes back as a new one.
FORGET_REPLICA_SECONDS: Final = 86_400

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlaneTimes:
    """Seconds that say how long a token or a silent replica counts."""

    enrolment_token_seconds: int
    replica_live_seconds: int


class Planes:
    """What the registry and the endpoints ask of planes."""

    def __init__(self, signer: SigningKey, clock: DatabaseClock, times: PlaneTimes) -> None:
        self._signer = signer
        self._clock = clock
        self._times = times

    @property
    def replica_live_seconds(self) -> int:
        return self._times.replica_live_seconds

    async def choose(self, cursor: Cursor, region: str) -> str | None:
        """A plane for a new root org of `region`; None where there is none yet."""
        return await repository.choose(cursor, region)

    async def publish(self, cursor: Cursor, snapshots: Sequence[StoredSnapshot]) -> None:
        """Stores signed snapshots and wakes their planes when the transaction commits."""
        if snapshots:
            await repository.store_snapshots(cursor, snapshots)

    async def create(self, cursor: Cursor, name: str, request: PlaneRequest) -> PlaneCreated:
        """Registers a plane, or moves its endpoint, with a fresh enrolment token; tokens that were
        not used die. Raises Unprocessable (`immutable_field`) for another region."""
        await self._ensure(cursor, name, request)
        token = "tpe_" + secrets.token_urlsafe(32)
        await repository.drop_unused_tokens(cursor, name)
        await repository.keep_token(
            cursor, name, _sha256(token), self._times.enrolment_token_seconds
        )
        view = await self._view(cursor, name)
        return PlaneCreated(**view.model_dump(), enrolment_token=token)

    async def ensure(
        self, cursor: Cursor, name: str, request: PlaneRequest, enrolment_token: str
    ) -> None:
        """A plane of the settings: there after the call, with that token unless it is burnt."""
        await self._ensure(cursor, name, request)
        await repository.keep_token(
            cursor, name, _sha256(enrolment_token), self._times.enrolment_token_seconds
        )

    async def views(self, cursor: Cursor) -> list[PlaneView]:
        return await repository.view_planes(cursor, self._times.replica_live_seconds)

    async def read(self, cursor: Cursor, name: str) -> PlaneRow | None:
        return await repository.read_plane(cursor, name)

    async def enrol(self, cursor: Cursor, name: str, request: EnrollRequest) -> PlaneRow:
        """Burns the token and keeps the plane's public key.

        The same token with the same key is answered again: a plane may die between the two, or
        lose the answer. Raises Unauthenticated (`enrolment_token_unknown`, `…_expired`, `…_used`)
        and Unprocessable (a key that cannot be used).
        """
        jwk = public_key(request.public_jwk)
        sha256 = _sha256(request.enrolment_token)
        token = await repository.lock_token(cursor, sha256)
        plane = await repository.lock_plane(cursor, name)
        if token is None or plane is None or token.plane != name:
            security_event("enrolment_token_unknown", plane=name)
            raise _refused_token("is not known for this plane", "enrolment_token_unknown")
        if token.burnt_for is not None:
            if token.burnt_for == jwk["kid"] and plane.public_jwk == jwk:
                return plane
            security_event("enrolment_token_replayed", plane=name)
            raise _refused_token("was used already", "enrolment_token_used")
        if token.expired:
            raise _refused_token("has expired", "enrolment_token_expired")
        await repository.burn_token(cursor, sha256, jwk["kid"])
        await repository.enrol_plane(cursor, name, jwk)
        _log.info("plane enrolled", extra={"plane": name, "kid": jwk["kid"]})
        return plane

    async def acknowledge(
        self, cursor: Cursor, plane: str, replica: str, applied_before: int
    ) -> int:
        """Notes how far a replica has read; returns the next beacon's sequence.

        Commit this before `changes`: a transaction that has written holds the horizon of cursors
        back, and its own reader would see it stand still.
        """
        await repository.acknowledge(cursor, plane, replica, applied_before)
        await repository.forget_replicas(cursor, plane, FORGET_REPLICA_SECONDS)
        return await repository.next_beacon(cursor, plane)

    async def dismiss(self, cursor: Cursor, plane: str, replica: str) -> None:
        """A replica that ends in order says so: what is applied need not wait for it any more."""
        await repository.dismiss_replica(cursor, plane, replica)

    async def report_isolation(self, cursor: Cursor, plane: str, report: IsolationReport) -> None:
        """Keeps what a plane found in its own database, in place of what it found before."""
        if report.refusals:
            security_event("isolation_not_verified", plane=plane, refusals=report.refusals)
        await repository.report_isolation(cursor, plane, report)

    async def next_beacon(self, cursor: Cursor, plane: str) -> int:
        return await repository.next_beacon(cursor, plane)

    async def changes(self, cursor: Cursor, plane: str, after: int, limit: int) -> ChangedSnapshots:
        return await repository.changes(cursor, plane, after, limit)

    async def versions(self, cursor: Cursor, plane: str) -> Mapping[str, int]:
        return await repository.versions(cursor, plane)

    def beacon(self, plane: str, sequence: int, versions: Mapping[str, int]) -> str:
        """A signed word on what time it is and which versions are in force."""
        beacon = Beacon(
            plane=plane,
            sequence=sequence,
            issued_at=self._clock.now(),
            orgs=len(versions),
            versions_sha256=versions_digest(versions),
        )
        return self._signer.sign(beacon.model_dump(mode="json"), BEACON_TYP)

    async def require_placed(
        self, cursor: Cursor, plane: str, claimed: Mapping[str, str | None]
    ) -> None:
        """Raises Forbidden where the plane speaks for an org that is not on it (F62). `claimed`
        maps org ids to the root that the plane names, where it names one."""
        known = await repository.placed(cursor, plane, sorted(claimed))
        foreign = sorted(
            org_id
            for org_id, root in claimed.items()
            if org_id not in known or root not in (None, known[org_id])
        )
        if foreign:
            security_event("plane_spoke_for_foreign_org", plane=plane, orgs=len(foreign))
            raise Forbidden(
                f"Plane {plane!r} does not serve {foreign[0]!r}, and cannot report for it.",
                hint="A plane reports for the orgs that are placed on it alone.",
                code="org_not_on_plane",
            )

    async def levels(self, cursor: Cursor, org_ids: Sequence[str]) -> dict[str, tuple[Level, ...]]:
        """The limits that are in force for each org, root first; an org without a snapshot is not
        there."""
        # Signed here, by this service's own key: read, not verified again.
        signed = await repository.signed_snapshots(cursor, org_ids)
        return {org_id: _levels(jws) for org_id, jws in signed.items()}

    async def _ensure(self, cursor: Cursor, name: str, request: PlaneRequest) -> None:
        await repository.insert_plane(cursor, name, request.region, request.endpoint, request.kind)
        plane = await repository.lock_plane(cursor, name)
        assert plane is not None
        if plane.region != request.region:
            raise Unprocessable(
                "region cannot be changed.",
                hint="Register another plane in that region.",
                code="immutable_field",
                errors=(FieldError("region", f"is immutable ({plane.region!r})"),),
            )
        if plane.endpoint != request.endpoint:
            await repository.move_plane(cursor, name, request.endpoint)

    async def _view(self, cursor: Cursor, name: str) -> PlaneView:
        views = await repository.view_planes(cursor, self._times.replica_live_seconds, name)
        if not views:
            raise NotFound(f"There is no plane {name!r}.")
        return views[0]


def _levels(jws: str) -> tuple[Level, ...]:
    payload = jws.split(".")[1]
    content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return tuple(Level.model_validate(level) for level in content["levels"])


def _refused_token(reason: str, code: str) -> Unauthenticated:
    return Unauthenticated(
        f"The enrolment token {reason}.",
        hint="Ask the platform operator for a new one: PUT /v1/planes/<name>.",
        code=code,
    )


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
