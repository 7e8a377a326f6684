"""What the plane keeps in its own Postgres: its key, its enrolment, and the last signed words of
the control plane. All replicas of a plane share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncCursor
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tenantplane.core.apis.planes import Enrolled, SignedSnapshot
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import ConfigurationRefused
from tenantplane.dataplane.gate.trust import Jwks

PEERING = system_job("peering.state", "the plane's own key, enrolment and beacon belong to no org")
SNAPSHOTS = system_job("peering.snapshots", "a plane keeps the signed snapshots of all its orgs")

_OFFER_KEY: LiteralString = """
INSERT INTO dataplane.plane_state (plane, wrapped_key) VALUES (%(plane)s, %(wrapped_key)s)
ON CONFLICT (only_row) DO NOTHING
"""
_READ_STATE: LiteralString = """
SELECT plane, wrapped_key, region, issuer, jwks, enrolled_at,
       beacon_jws, beacon_sequence, beacon_received_at
  FROM dataplane.plane_state WHERE only_row
"""
_KEEP_ENROLMENT: LiteralString = """
UPDATE dataplane.plane_state
   SET region = %(region)s, issuer = %(issuer)s, jwks = %(jwks)s, enrolled_at = now()
 WHERE only_row AND plane = %(plane)s
"""
_KEEP_KEYS: LiteralString = """
UPDATE dataplane.plane_state SET jwks = %(jwks)s WHERE only_row
"""
# Replicas hear the same beacons in any order: only a later one replaces what is kept.
_KEEP_BEACON: LiteralString = """
UPDATE dataplane.plane_state
   SET beacon_jws = %(jws)s, beacon_sequence = %(sequence)s, beacon_received_at = %(received_at)s
 WHERE only_row AND (beacon_sequence IS NULL OR beacon_sequence < %(sequence)s)
"""
_KEEP_SNAPSHOTS: LiteralString = """
INSERT INTO dataplane.snapshot (org_id, version, jws)
SELECT * FROM unnest(%(org_ids)s::text[], %(versions)s::bigint[], %(jws)s::text[])
    ON CONFLICT (org_id) DO UPDATE
   SET version = excluded.version, jws = excluded.jws, stored_at = now()
 WHERE snapshot.version < excluded.version
"""
_READ_SNAPSHOTS: LiteralString = """
-- all orgs: a plane holds the snapshots of those it serves.
SELECT org_id, version, jws FROM dataplane.snapshot
"""


@dataclass(frozen=True, slots=True)
class KeptBeacon:
    jws: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class PlaneState:
    """`enrolled` None: the key is there, and the control plane has not answered yet."""

    plane: str
    wrapped_key: bytes
    enrolled: Enrolled | None
    beacon: KeptBeacon | None


class PlaneStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> PlaneState | None:
        """None on a fresh database."""
        async with self._database.system_tx(PEERING) as cursor:
            return await _read_state(cursor)

    async def offer_key(self, plane: str, wrapped_key: bytes) -> PlaneState:
        """The state after offering a first key: of several replicas that offer one, the first
        wins, and all get that one back.

        Raises ConfigurationRefused where this database belongs to another plane.
        """
        async with self._database.system_tx(PEERING) as cursor:
            await cursor.execute(_OFFER_KEY, {"plane": plane, "wrapped_key": wrapped_key})
            state = await _read_state(cursor)
        assert state is not None
        require_own(state, plane)
        return state

    async def keep_enrolment(self, enrolled: Enrolled) -> None:
        values = {
            "plane": enrolled.plane,
            "region": enrolled.region,
            "issuer": enrolled.issuer,
            "jwks": Jsonb(enrolled.jwks),
        }
        async with self._database.system_tx(PEERING) as cursor:
            await cursor.execute(_KEEP_ENROLMENT, values)
            assert cursor.rowcount == 1, "the plane's key is stored before it enrols"

    async def keep_keys(self, jwks: Jwks) -> None:
        async with self._database.system_tx(PEERING) as cursor:
            await cursor.execute(_KEEP_KEYS, {"jwks": Jsonb(dict(jwks))})

    async def keep_beacon(self, beacon: KeptBeacon, sequence: int) -> None:
        values = {"jws": beacon.jws, "sequence": sequence, "received_at": beacon.received_at}
        async with self._database.system_tx(PEERING) as cursor:
            await cursor.execute(_KEEP_BEACON, values)

    async def keep_snapshots(self, snapshots: Sequence[SignedSnapshot]) -> None:
        """Keeps those that are newer than what is kept. No org twice in one call."""
        # Sorted, so that two replicas that store the same orgs wait for each other in one order.
        ordered = sorted(snapshots, key=lambda s: s.org_id)
        values = {
            "org_ids": [s.org_id for s in ordered],
            "versions": [s.version for s in ordered],
            "jws": [s.jws for s in ordered],
        }
        async with self._database.system_tx(SNAPSHOTS) as cursor:
            await cursor.execute(_KEEP_SNAPSHOTS, values)

    async def snapshots(self) -> list[SignedSnapshot]:
        async with self._database.system_tx(SNAPSHOTS) as cursor:
            await cursor.execute(_READ_SNAPSHOTS)
            return [SignedSnapshot(**row) for row in await cursor.fetchall()]


def require_own(state: PlaneState, plane: str) -> None:
    """Raises ConfigurationRefused where the state is another plane's."""
    if state.plane != plane:
        raise ConfigurationRefused(
            f"This database belongs to plane {state.plane!r}, not to {plane!r}.",
            hint="Set TENANTPLANE_PLANE to its name, or give this plane a database of its own.",
        )


async def _read_state(cursor: AsyncCursor[DictRow]) -> PlaneState | None:
    await cursor.execute(_READ_STATE)
    row = await cursor.fetchone()
    if row is None:
        return None
    return PlaneState(
        plane=row["plane"],
        wrapped_key=bytes(row["wrapped_key"]),
        enrolled=_enrolled(row),
        beacon=(
            KeptBeacon(row["beacon_jws"], row["beacon_received_at"]) if row["beacon_jws"] else None
        ),
    )


def _enrolled(row: dict[str, Any]) -> Enrolled | None:
    if row["enrolled_at"] is None:
        return None
    return Enrolled(
        plane=row["plane"], region=row["region"], issuer=row["issuer"], jwks=row["jwks"]
    )
