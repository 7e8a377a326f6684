"""SQL of the registry. Every statement names its schema: the search path holds none of ours."""

from __future__ import annotations

from typing import Final, LiteralString

LOCK_PLAN: Final[LiteralString] = """
SELECT name, spec, writer, generation, version, price_book_version
  FROM controlplane.plan WHERE name = %(name)s FOR UPDATE
"""
# Tenants of one plan are written side by side; a change or deletion of the plan waits for them,
# and they for it, so that nobody signs what the plan said before.
SHARE_PLAN: Final[LiteralString] = """
SELECT name, spec, writer, generation, version, price_book_version
  FROM controlplane.plan WHERE name = %(name)s FOR SHARE
"""
INSERT_PLAN: Final[LiteralString] = """
INSERT INTO controlplane.plan (name, spec, writer, generation, version, price_book_version)
VALUES (%(name)s, %(spec)s, %(writer)s, %(generation)s, 1, 1)
ON CONFLICT (name) DO NOTHING
"""
UPDATE_PLAN: Final[LiteralString] = """
UPDATE controlplane.plan
   SET spec = %(spec)s, writer = %(writer)s, generation = %(generation)s, version = %(version)s,
       price_book_version = %(price_book_version)s, updated_at = now()
 WHERE name = %(name)s
"""
DELETE_PLAN: Final[LiteralString] = "DELETE FROM controlplane.plan WHERE name = %(name)s"
CLEAR_PLAN_ENTITLEMENTS: Final[LiteralString] = """
DELETE FROM controlplane.plan_entitlement WHERE plan = %(plan)s
"""
INSERT_PLAN_ENTITLEMENTS: Final[LiteralString] = """
INSERT INTO controlplane.plan_entitlement (plan, kind, name)
SELECT %(plan)s, row.kind, row.name
  FROM unnest(%(kinds)s::text[], %(names)s::text[]) AS row (kind, name)
"""
CLEAR_PLAN_ROLES: Final[LiteralString] = """
DELETE FROM controlplane.plan_role_bound WHERE plan = %(plan)s
"""
INSERT_PLAN_ROLES: Final[LiteralString] = """
INSERT INTO controlplane.plan_role_bound (plan, kind, name, role)
SELECT %(plan)s, row.kind, row.name, row.role
  FROM unnest(%(kinds)s::text[], %(names)s::text[], %(roles)s::text[]) AS row (kind, name, role)
"""
PLAN_NAMES: Final[LiteralString] = "SELECT name FROM controlplane.plan ORDER BY name"
PLANS: Final[LiteralString] = """
-- all orgs: counts the tenants of a plan.
SELECT p.name, p.spec, p.writer, p.generation, p.version, p.price_book_version,
       (SELECT count(*) FROM controlplane.org o WHERE o.plan = p.name) AS tenants
  FROM controlplane.plan p
 WHERE %(name)s::text IS NULL OR p.name = %(name)s
 ORDER BY p.name
"""
TENANTS_OF_PLAN: Final[LiteralString] = """
-- all orgs: a plan in use is not deleted.
SELECT org_id FROM controlplane.org WHERE plan = %(plan)s ORDER BY org_id
"""

_ORG: Final[LiteralString] = """
SELECT org_id, root_org_id, parent, path, status, spec, plan, region, writer, generation,
       token_epoch, plane
  FROM controlplane.org WHERE org_id = %(org_id)s
"""
READ_ORG: Final[LiteralString] = _ORG
LOCK_ORG: Final[LiteralString] = _ORG + " FOR UPDATE"
# Whoever changes what a tree's snapshots say holds the row of its root. Several are taken in one
# order, so that two plans that change at once wait for each other instead of deadlocking.
LOCK_ROOTS: Final[LiteralString] = """
SELECT org_id FROM controlplane.org WHERE org_id = ANY(%(roots)s) ORDER BY org_id FOR UPDATE
"""
ROOTS_OF_PLAN: Final[LiteralString] = """
-- all orgs: a plan's change reaches all its trees.
SELECT DISTINCT root_org_id FROM controlplane.org WHERE plan = %(plan)s
"""
IS_PURGED: Final[LiteralString] = """
SELECT 1 AS purged FROM controlplane.purged_org WHERE org_id = %(org_id)s
"""
INSERT_ORG: Final[LiteralString] = """
INSERT INTO controlplane.org (org_id, root_org_id, parent, path, status, spec, plan, region,
                              isolation, writer, generation)
VALUES (%(org_id)s, %(root_org_id)s, %(parent)s, %(path)s, %(status)s, %(spec)s, %(plan)s,
        %(region)s, 'shared', %(writer)s, %(generation)s)
ON CONFLICT (org_id) DO NOTHING
"""
UPDATE_ORG: Final[LiteralString] = """
UPDATE controlplane.org
   SET status = %(status)s, spec = %(spec)s, plan = %(plan)s, writer = %(writer)s,
       generation = %(generation)s, token_epoch = %(token_epoch)s, updated_at = now()
 WHERE org_id = %(org_id)s
"""
PLACE_TREE: Final[LiteralString] = """
-- all orgs: a tree moves as one.
UPDATE controlplane.org SET plane = %(plane)s
 WHERE root_org_id = %(root_org_id)s AND plane IS NULL
RETURNING org_id
"""
WAITING_ROOTS: Final[LiteralString] = """
-- all orgs: a new plane takes those that wait.
SELECT org_id FROM controlplane.org
 WHERE plane IS NULL AND region = %(region)s AND org_id = root_org_id AND status <> 'deleted'
 ORDER BY org_id
"""
DELETE_ORG: Final[LiteralString] = "DELETE FROM controlplane.org WHERE org_id = %(org_id)s"
INSERT_PURGED: Final[LiteralString] = """
INSERT INTO controlplane.purged_org (org_id) VALUES (%(org_id)s)
"""
CHILDREN: Final[LiteralString] = """
SELECT org_id, status FROM controlplane.org
 WHERE root_org_id = %(root_org_id)s AND parent = %(org_id)s ORDER BY org_id
"""
CLEAR_ORG_ENTITLEMENTS: Final[LiteralString] = """
DELETE FROM controlplane.org_entitlement WHERE org_id = %(org_id)s
"""
INSERT_ORG_ENTITLEMENTS: Final[LiteralString] = """
INSERT INTO controlplane.org_entitlement (org_id, kind, name, effect)
SELECT %(org_id)s, row.kind, row.name, row.effect
  FROM unnest(%(kinds)s::text[], %(names)s::text[], %(effects)s::text[])
       AS row (kind, name, effect)
"""
CLEAR_ORG_ROLES: Final[LiteralString] = """
DELETE FROM controlplane.org_role_bound WHERE org_id = %(org_id)s
"""
INSERT_ORG_ROLES: Final[LiteralString] = """
INSERT INTO controlplane.org_role_bound (org_id, kind, name, role)
SELECT %(org_id)s, row.kind, row.name, row.role
  FROM unnest(%(kinds)s::text[], %(names)s::text[], %(roles)s::text[]) AS row (kind, name, role)
"""
CLEAR_ISSUERS: Final[LiteralString] = """
DELETE FROM controlplane.issuer WHERE org_id = %(org_id)s
"""
RELEASE_ISSUERS: Final[LiteralString] = """
DELETE FROM controlplane.issuer_holder WHERE holder = %(org_id)s
"""
HOLD_ISSUER: Final[LiteralString] = """
INSERT INTO controlplane.issuer_holder (issuer, audience, holder)
VALUES (%(issuer)s, %(audience)s, %(org_id)s)
ON CONFLICT (issuer, audience) DO NOTHING
"""
INSERT_ISSUER: Final[LiteralString] = """
INSERT INTO controlplane.issuer (org_id, issuer, audience, rules)
VALUES (%(org_id)s, %(issuer)s, %(audience)s, %(rules)s)
"""
ISSUERS_BY_NAME: Final[LiteralString] = """
-- all orgs: tells whether an issuer is another org's.
SELECT org_id, rules FROM controlplane.issuer WHERE issuer = %(issuer)s ORDER BY org_id
"""

TREE_UNDER: Final[LiteralString] = """
SELECT org_id FROM controlplane.org
 WHERE root_org_id = %(root_org_id)s AND %(org_id)s = ANY(path)
"""
# A child's snapshot carries its umbrella's limits, and those come from the umbrella's plan.
TREES_UNDER_PLAN: Final[LiteralString] = """
-- all orgs: a plan's change reaches all its trees.
SELECT DISTINCT below.org_id
  FROM controlplane.org o
  JOIN controlplane.org below ON below.root_org_id = o.root_org_id AND o.org_id = ANY(below.path)
 WHERE o.plan = %(plan)s
"""
# Everything that the snapshots of these orgs are made of: the orgs and those above them.
LINES: Final[LiteralString] = """
WITH line AS (
  SELECT DISTINCT above.org_id
    FROM controlplane.org o CROSS JOIN LATERAL unnest(o.path) AS above (org_id)
   WHERE o.org_id = ANY(%(org_ids)s)
)
SELECT o.org_id, o.root_org_id, o.path, o.status, o.spec, o.plan, o.region, o.token_epoch, o.plane,
       coalesce(p.price_book_version, 1) AS price_book_version,
       s.version, s.content_sha256, o.excess_acknowledged_until,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(e.kind, e.name, e.effect)), '[]')
          FROM controlplane.org_entitlement e WHERE e.org_id = o.org_id) AS entitlements,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(b.kind, b.name, b.role)), '[]')
          FROM controlplane.org_role_bound b WHERE b.org_id = o.org_id) AS role_rows
  FROM line
  JOIN controlplane.org o ON o.org_id = line.org_id
  LEFT JOIN controlplane.plan p ON p.name = o.plan
  LEFT JOIN controlplane.snapshot s ON s.org_id = o.org_id
"""
PLANS_OF_LINES: Final[LiteralString] = """
SELECT p.name, p.spec,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(e.kind, e.name)), '[]')
          FROM controlplane.plan_entitlement e WHERE e.plan = p.name) AS entitlements,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(b.kind, b.name, b.role)), '[]')
          FROM controlplane.plan_role_bound b WHERE b.plan = p.name) AS role_rows
  FROM controlplane.plan p WHERE p.name = ANY(%(names)s)
"""
KEYS_OF_ORGS: Final[LiteralString] = """
SELECT org_id, key_id, encode(sha256, 'hex') AS sha256_hex, user_id, roles, scopes, expires_at
  FROM controlplane.api_key
 WHERE org_id = ANY(%(org_ids)s) AND revoked_at IS NULL
   AND (expires_at IS NULL OR expires_at > now())
"""

INSERT_KEY: Final[LiteralString] = """
INSERT INTO controlplane.api_key (org_id, key_id, sha256, name, user_id, roles, scopes, expires_at)
VALUES (%(org_id)s, %(key_id)s, %(sha256)s, %(name)s, %(user_id)s, %(roles)s, %(scopes)s,
        now() + make_interval(secs => %(expires_in_seconds)s))
RETURNING key_id, name, user_id, roles, scopes, created_at, expires_at, revoked_at
"""
KEYS: Final[LiteralString] = """
SELECT key_id, name, user_id, roles, scopes, created_at, expires_at, revoked_at
  FROM controlplane.api_key WHERE org_id = %(org_id)s ORDER BY key_id
"""
REVOKE_KEY: Final[LiteralString] = """
UPDATE controlplane.api_key SET revoked_at = coalesce(revoked_at, now())
 WHERE org_id = %(org_id)s AND key_id = %(key_id)s
RETURNING key_id, name, user_id, roles, scopes, created_at, expires_at, revoked_at
"""

SNAPSHOT_VERSION: Final[LiteralString] = """
SELECT version FROM controlplane.snapshot WHERE org_id = %(org_id)s
"""
_VIEW: Final[LiteralString] = """
SELECT o.org_id, o.root_org_id, o.status, o.spec, o.writer, o.generation, o.token_epoch, o.plane,
       coalesce(s.version, 0) AS version, p.endpoint,
       CASE WHEN i.plane IS NOT NULL THEN jsonb_build_object(
         'reportedAt', i.reported_at,
         'ageSeconds', extract(epoch FROM now() - i.reported_at),
         'intervalSeconds', i.interval_seconds, 'refusals', i.refusals, 'warnings', i.warnings,
         'first', i.findings -> 0) END AS isolation,
       -- Said by the plane itself: each replica seen of late has read past the change.
       coalesce((SELECT bool_and(r.cursor > s.changed_xid)
                   FROM controlplane.plane_replica r
                  WHERE r.plane = s.plane
                    AND r.seen_at > now() - make_interval(secs => %(live_seconds)s)), false)
         AS applied
  FROM controlplane.org o
  LEFT JOIN controlplane.snapshot s ON s.org_id = o.org_id
  LEFT JOIN controlplane.plane p ON p.name = o.plane
  LEFT JOIN controlplane.plane_isolation i ON i.plane = o.plane
"""
VIEW_ORG: Final[LiteralString] = _VIEW + " WHERE o.org_id = %(org_id)s"
VIEW_ORGS: Final[LiteralString] = (
    _VIEW + " WHERE o.org_id > %(after)s ORDER BY o.org_id LIMIT %(limit)s"
    " -- all orgs: the operator's list"
)
