"""SQL of the catalogue."""

from __future__ import annotations

from typing import Final, LiteralString

# Who changes the catalogue waits for those who change what orgs may use, and they for it: nobody
# signs a prompt for an org that the other has not seen. Before the rows of roots, after a plan's.
LOCK_FOR_CHANGE: Final[LiteralString] = "SELECT FROM controlplane.catalogue_turn FOR UPDATE"
LOCK_FOR_USE: Final[LiteralString] = "SELECT FROM controlplane.catalogue_turn FOR SHARE"

VERSIONS: Final[LiteralString] = """
SELECT version, description, prompt AS text, created_by, created_at, withdrawn_by, withdrawn_at
  FROM controlplane.catalogue WHERE kind = %(kind)s AND name = %(name)s ORDER BY version DESC
"""
ENTRIES: Final[LiteralString] = """
SELECT DISTINCT ON (kind, name) kind, name, description,
       CASE WHEN withdrawn_at IS NULL THEN version END AS version
  FROM controlplane.catalogue WHERE %(kind)s::text IS NULL OR kind = %(kind)s
 ORDER BY kind, name, withdrawn_at IS NOT NULL, version DESC
"""
INSERT_VERSION: Final[LiteralString] = """
INSERT INTO controlplane.catalogue (kind, name, version, description, prompt, created_by)
VALUES (%(kind)s, %(name)s, %(version)s, %(description)s, %(text)s, %(actor)s)
"""
WITHDRAW: Final[LiteralString] = """
UPDATE controlplane.catalogue SET withdrawn_by = %(actor)s, withdrawn_at = now()
 WHERE kind = %(kind)s AND name = %(name)s AND withdrawn_at IS NULL
   AND (%(version)s::bigint IS NULL OR version = %(version)s)
"""
# A list may name the prompt, or one version of it.
USERS_OF_PROMPT: Final[LiteralString] = """
-- all orgs: a prompt's change reaches all that may use it.
SELECT o.org_id, o.root_org_id
  FROM controlplane.org o
 WHERE EXISTS (SELECT FROM controlplane.plan_entitlement e
                WHERE e.plan = o.plan AND e.kind = 'prompt'
                  AND split_part(e.name, '@', 1) = %(name)s)
    OR EXISTS (SELECT FROM controlplane.org_entitlement e
                WHERE e.org_id = o.org_id AND e.kind = 'prompt' AND e.effect = 'allow'
                  AND split_part(e.name, '@', 1) = %(name)s)
 ORDER BY o.org_id
"""
USABLE_VERSIONS: Final[LiteralString] = """
SELECT name, array_agg(version) AS versions
  FROM controlplane.catalogue
 WHERE kind = 'prompt' AND name = ANY(%(names)s) AND withdrawn_at IS NULL
 GROUP BY name
"""
TEXTS: Final[LiteralString] = """
SELECT c.name, c.version, c.prompt
  FROM unnest(%(names)s::text[], %(versions)s::bigint[]) AS wanted (name, version)
  JOIN controlplane.catalogue c
    ON c.kind = 'prompt' AND c.name = wanted.name AND c.version = wanted.version
"""
