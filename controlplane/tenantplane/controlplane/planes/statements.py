"""SQL of planes: placement, snapshots, changes, enrolment."""

from __future__ import annotations

from typing import Final, LiteralString

# The plane in the region with the fewest orgs; one that is enrolled before one that is not.
CHOOSE_PLANE: Final[LiteralString] = """
-- all orgs: counts the orgs of each plane.
SELECT p.name
  FROM controlplane.plane p
  LEFT JOIN controlplane.snapshot s ON s.plane = p.name AND s.status <> 'deleted'
 WHERE p.region = %(region)s AND p.kind = 'shared'
 GROUP BY p.name, p.enrolled_at
 ORDER BY p.enrolled_at IS NULL, count(s.org_id), p.name
 LIMIT 1
"""
STORE_SNAPSHOTS: Final[LiteralString] = """
INSERT INTO controlplane.snapshot AS s
       (org_id, root_org_id, plane, version, status, content_sha256, jws, changed_xid)
SELECT row.*, pg_current_xact_id()
  FROM unnest(%(org_ids)s::text[], %(roots)s::text[], %(planes)s::text[], %(versions)s::bigint[],
              %(statuses)s::text[], %(digests)s::bytea[], %(jws)s::text[]) AS row
ON CONFLICT (org_id) DO UPDATE
   SET plane = excluded.plane, version = excluded.version, status = excluded.status,
       content_sha256 = excluded.content_sha256, jws = excluded.jws,
       changed_xid = excluded.changed_xid
 WHERE s.version < excluded.version
"""
# Delivered at commit, so nobody is told of what may yet roll back.
NOTIFY_PLANES: Final[LiteralString] = """
SELECT pg_notify('controlplane_changed', plane) FROM unnest(%(planes)s::text[]) AS plane
"""
# One statement, so one snapshot: rows, horizon and versions agree.
#
# Transactions below pg_snapshot_xmin are decided; rows at or above it are handed out too, and again
# next time. A page is cut behind a whole transaction, since the cursor has no finer grain, and only
# below the horizon. A cursor from the future is of a database that was restored since: start anew.
CHANGES: Final[LiteralString] = """
-- all orgs: a plane reads the snapshots of all its orgs.
WITH horizon AS (
  SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin,
         CASE WHEN %(after)s::text::xid8 > pg_snapshot_xmax(pg_current_snapshot()) THEN '0'::xid8
              ELSE %(after)s::text::xid8 END AS after
), changed AS (
  SELECT s.org_id, s.version, s.jws, s.changed_xid
    FROM controlplane.snapshot s, horizon h
   WHERE s.plane = %(plane)s AND s.changed_xid >= h.after
), page AS (
  SELECT (SELECT c.changed_xid FROM (SELECT changed_xid FROM changed ORDER BY changed_xid
                                     OFFSET %(limit)s - 1 LIMIT 1) c, horizon h
           WHERE c.changed_xid < h.xmin) AS last_xid
)
SELECT coalesce(p.last_xid::text::bigint + 1, h.xmin::text::bigint) AS cursor,
       p.last_xid IS NOT NULL AS more,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(c.org_id, c.version, c.jws)
                                  ORDER BY c.changed_xid, c.org_id), '[]')
          FROM changed c WHERE p.last_xid IS NULL OR c.changed_xid <= p.last_xid) AS snapshots,
       (SELECT coalesce(jsonb_object_agg(s.org_id, s.version), '{}')
          FROM controlplane.snapshot s WHERE s.plane = %(plane)s) AS versions
  FROM page p, horizon h
"""
VERSIONS: Final[LiteralString] = """
-- all orgs: a plane's beacon covers all its orgs.
SELECT coalesce(jsonb_object_agg(s.org_id, s.version), '{}') AS versions
  FROM controlplane.snapshot s WHERE s.plane = %(plane)s
"""
NEXT_BEACON: Final[LiteralString] = """
UPDATE controlplane.plane SET beacon_sequence = beacon_sequence + 1
 WHERE name = %(plane)s RETURNING beacon_sequence
"""
# A cursor from the future acknowledges nothing: it is of another life of this database.
ACKNOWLEDGE: Final[LiteralString] = """
INSERT INTO controlplane.plane_replica AS r (plane, replica, cursor, seen_at)
SELECT %(plane)s, %(replica)s,
       CASE WHEN asked.cursor > pg_snapshot_xmax(pg_current_snapshot()) THEN '0'::xid8
            ELSE asked.cursor END,
       now()
  FROM (SELECT %(cursor)s::text::xid8 AS cursor) asked
ON CONFLICT (plane, replica) DO UPDATE SET cursor = excluded.cursor, seen_at = excluded.seen_at
"""
DISMISS_REPLICA: Final[LiteralString] = """
DELETE FROM controlplane.plane_replica WHERE plane = %(plane)s AND replica = %(replica)s
"""
FORGET_REPLICAS: Final[LiteralString] = """
DELETE FROM controlplane.plane_replica
 WHERE plane = %(plane)s AND seen_at < now() - make_interval(secs => %(forget_seconds)s)
"""
PLACED: Final[LiteralString] = """
SELECT org_id, root_org_id FROM controlplane.snapshot
 WHERE plane = %(plane)s AND org_id = ANY(%(org_ids)s)
"""
LEVELS: Final[LiteralString] = """
SELECT org_id, jws FROM controlplane.snapshot WHERE org_id = ANY(%(org_ids)s)
"""

# NO KEY: whoever places an org refers to the plane's row while holding its tree, and must not wait
# here for one that holds the plane and waits for that tree.
LOCK_PLANE: Final[LiteralString] = """
SELECT name, region, endpoint, kind, public_jwk, enrolled_at
  FROM controlplane.plane WHERE name = %(name)s FOR NO KEY UPDATE
"""
READ_PLANE: Final[LiteralString] = """
SELECT name, region, endpoint, kind, public_jwk, enrolled_at
  FROM controlplane.plane WHERE name = %(name)s
"""
INSERT_PLANE: Final[LiteralString] = """
INSERT INTO controlplane.plane (name, region, endpoint, kind)
VALUES (%(name)s, %(region)s, %(endpoint)s, %(kind)s)
ON CONFLICT (name) DO NOTHING
"""
MOVE_PLANE: Final[LiteralString] = """
UPDATE controlplane.plane SET endpoint = %(endpoint)s WHERE name = %(name)s
"""
ENROL_PLANE: Final[LiteralString] = """
UPDATE controlplane.plane SET public_jwk = %(public_jwk)s, enrolled_at = now() WHERE name = %(name)s
"""
VIEW_PLANES: Final[LiteralString] = """
-- all orgs: counts the orgs of each plane.
SELECT p.name, p.region, p.endpoint, p.kind, p.public_jwk IS NOT NULL AS enrolled,
       (SELECT count(*) FROM controlplane.plane_replica r
         WHERE r.plane = p.name AND r.seen_at > now() - make_interval(secs => %(live_seconds)s))
         AS replicas,
       (SELECT count(*) FROM controlplane.snapshot s
         WHERE s.plane = p.name AND s.status <> 'deleted') AS orgs,
       CASE WHEN i.plane IS NOT NULL THEN jsonb_build_object(
         'reportedAt', i.reported_at,
         'ageSeconds', extract(epoch FROM now() - i.reported_at),
         'intervalSeconds', i.interval_seconds, 'refusals', i.refusals, 'warnings', i.warnings,
         'first', i.findings -> 0) END AS isolation
  FROM controlplane.plane p
  LEFT JOIN controlplane.plane_isolation i ON i.plane = p.name
 WHERE %(name)s::text IS NULL OR p.name = %(name)s
 ORDER BY p.name
"""
# The replicas of a plane have one database: the last word counts.
REPORT_ISOLATION: Final[LiteralString] = """
INSERT INTO controlplane.plane_isolation
       (plane, reported_at, interval_seconds, refusals, warnings, findings)
VALUES (%(plane)s, now(), %(interval_seconds)s, %(refusals)s, %(warnings)s, %(findings)s)
ON CONFLICT (plane) DO UPDATE
   SET reported_at = excluded.reported_at, interval_seconds = excluded.interval_seconds,
       refusals = excluded.refusals, warnings = excluded.warnings, findings = excluded.findings
"""
DROP_UNUSED_ENROLMENTS: Final[LiteralString] = """
DELETE FROM controlplane.enrolment_token WHERE plane = %(plane)s AND burnt_at IS NULL
"""
# A token that is burnt stays burnt, whoever offers it again.
KEEP_ENROLMENT: Final[LiteralString] = """
INSERT INTO controlplane.enrolment_token AS t (sha256, plane, expires_at)
VALUES (%(sha256)s, %(plane)s, now() + make_interval(secs => %(life_seconds)s))
ON CONFLICT (sha256) DO UPDATE SET expires_at = excluded.expires_at
 WHERE t.burnt_at IS NULL AND t.plane = excluded.plane
"""
LOCK_ENROLMENT: Final[LiteralString] = """
SELECT plane, expires_at <= now() AS expired, burnt_for
  FROM controlplane.enrolment_token WHERE sha256 = %(sha256)s FOR UPDATE
"""
BURN_ENROLMENT: Final[LiteralString] = """
UPDATE controlplane.enrolment_token SET burnt_at = now(), burnt_for = %(thumbprint)s
 WHERE sha256 = %(sha256)s
"""
