"""Reads and writes planes, their tokens, replicas and snapshots. All as a named system job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.planes import statements
from tenantplane.controlplane.planes.schemas import (
    ChangedSnapshots,
    PlaneRow,
    StoredSnapshot,
    TokenRow,
)
from tenantplane.core.apis.planes import IsolationReport, SignedSnapshot
from tenantplane.core.apis.registry import PlaneView


async def choose(cursor: Cursor, region: str) -> str | None:
    await cursor.execute(statements.CHOOSE_PLANE, {"region": region})
    row = await cursor.fetchone()
    return None if row is None else str(row["name"])


async def store_snapshots(cursor: Cursor, snapshots: Sequence[StoredSnapshot]) -> None:
    """Raises RuntimeError where a version would not rise: the root's lock was not held."""
    await cursor.execute(
        statements.STORE_SNAPSHOTS,
        {
            "org_ids": [s.org_id for s in snapshots],
            "roots": [s.root_org_id for s in snapshots],
            "planes": [s.plane for s in snapshots],
            "versions": [s.version for s in snapshots],
            "statuses": [s.status for s in snapshots],
            "digests": [s.digest for s in snapshots],
            "jws": [s.jws for s in snapshots],
        },
    )
    if cursor.rowcount != len(snapshots):
        raise RuntimeError(f"{len(snapshots) - cursor.rowcount} snapshot version(s) did not rise")
    planes = sorted({s.plane for s in snapshots})
    await cursor.execute(statements.NOTIFY_PLANES, {"planes": planes})


async def changes(cursor: Cursor, plane: str, after: int, limit: int) -> ChangedSnapshots:
    await cursor.execute(statements.CHANGES, {"plane": plane, "after": str(after), "limit": limit})
    row = await _one(cursor)
    return ChangedSnapshots(
        cursor=row["cursor"],
        more=row["more"],
        snapshots=tuple(
            SignedSnapshot(org_id=org_id, version=version, jws=jws)
            for org_id, version, jws in row["snapshots"]
        ),
        versions=row["versions"],
    )


async def versions(cursor: Cursor, plane: str) -> Mapping[str, int]:
    await cursor.execute(statements.VERSIONS, {"plane": plane})
    found: Mapping[str, int] = (await _one(cursor))["versions"]
    return found


async def next_beacon(cursor: Cursor, plane: str) -> int:
    await cursor.execute(statements.NEXT_BEACON, {"plane": plane})
    return int((await _one(cursor))["beacon_sequence"])


async def acknowledge(cursor: Cursor, plane: str, replica: str, applied_before: int) -> None:
    await cursor.execute(
        statements.ACKNOWLEDGE,
        {"plane": plane, "replica": replica, "cursor": str(applied_before)},
    )


async def dismiss_replica(cursor: Cursor, plane: str, replica: str) -> None:
    await cursor.execute(statements.DISMISS_REPLICA, {"plane": plane, "replica": replica})


async def forget_replicas(cursor: Cursor, plane: str, forget_seconds: int) -> None:
    await cursor.execute(
        statements.FORGET_REPLICAS, {"plane": plane, "forget_seconds": forget_seconds}
    )


async def placed(cursor: Cursor, plane: str, org_ids: Sequence[str]) -> dict[str, str]:
    """Those of `org_ids` that the plane serves or served, with their roots."""
    await cursor.execute(statements.PLACED, {"plane": plane, "org_ids": list(org_ids)})
    return {row["org_id"]: row["root_org_id"] for row in await cursor.fetchall()}


async def signed_snapshots(cursor: Cursor, org_ids: Sequence[str]) -> dict[str, str]:
    """The snapshot in force of each org, as it was signed."""
    await cursor.execute(statements.LEVELS, {"org_ids": list(org_ids)})
    return {row["org_id"]: row["jws"] for row in await cursor.fetchall()}


async def lock_plane(cursor: Cursor, name: str) -> PlaneRow | None:
    await cursor.execute(statements.LOCK_PLANE, {"name": name})
    row = await cursor.fetchone()
    return None if row is None else PlaneRow(**row)


async def read_plane(cursor: Cursor, name: str) -> PlaneRow | None:
    await cursor.execute(statements.READ_PLANE, {"name": name})
    row = await cursor.fetchone()
    return None if row is None else PlaneRow(**row)


async def insert_plane(cursor: Cursor, name: str, region: str, endpoint: str, kind: str) -> None:
    await cursor.execute(
        statements.INSERT_PLANE,
        {"name": name, "region": region, "endpoint": endpoint, "kind": kind},
    )


async def move_plane(cursor: Cursor, name: str, endpoint: str) -> None:
    await cursor.execute(statements.MOVE_PLANE, {"name": name, "endpoint": endpoint})


async def enrol_plane(cursor: Cursor, name: str, public_jwk: Mapping[str, str]) -> None:
    await cursor.execute(
        statements.ENROL_PLANE, {"name": name, "public_jwk": Jsonb(dict(public_jwk))}
    )


async def view_planes(
    cursor: Cursor, live_seconds: int, name: str | None = None
) -> list[PlaneView]:
    await cursor.execute(statements.VIEW_PLANES, {"name": name, "live_seconds": live_seconds})
    return [PlaneView.model_validate(row) for row in await cursor.fetchall()]


async def report_isolation(cursor: Cursor, plane: str, report: IsolationReport) -> None:
    await cursor.execute(
        statements.REPORT_ISOLATION,
        {
            "plane": plane,
            "interval_seconds": report.interval_seconds,
            "refusals": report.refusals,
            "warnings": report.warnings,
            "findings": Jsonb([finding.model_dump() for finding in report.findings]),
        },
    )


async def drop_unused_tokens(cursor: Cursor, plane: str) -> None:
    await cursor.execute(statements.DROP_UNUSED_ENROLMENTS, {"plane": plane})


async def keep_token(cursor: Cursor, plane: str, sha256: bytes, life_seconds: int) -> None:
    await cursor.execute(
        statements.KEEP_ENROLMENT,
        {"plane": plane, "sha256": sha256, "life_seconds": life_seconds},
    )


async def lock_token(cursor: Cursor, sha256: bytes) -> TokenRow | None:
    await cursor.execute(statements.LOCK_ENROLMENT, {"sha256": sha256})
    row = await cursor.fetchone()
    return None if row is None else TokenRow(**row)


async def burn_token(cursor: Cursor, sha256: bytes, thumbprint: str) -> None:
    await cursor.execute(statements.BURN_ENROLMENT, {"sha256": sha256, "thumbprint": thumbprint})


async def _one(cursor: Cursor) -> DictRow:
    row = await cursor.fetchone()
    assert row is not None  # each of these statements answers one row
    return row
