"""SQL of audit commitments."""

from __future__ import annotations

from typing import Final, LiteralString

INSERT_COMMITMENTS: Final[LiteralString] = """
INSERT INTO controlplane.audit_commitment (org_id, record_id, plane, run_id, entry, occurred_at)
SELECT row.org_id, row.record_id, %(plane)s, row.run_id, row.entry, row.occurred_at
  FROM unnest(%(org_ids)s::text[], %(record_ids)s::uuid[], %(run_ids)s::uuid[],
              %(entries)s::bytea[], %(times)s::timestamptz[])
       AS row (org_id, record_id, run_id, entry, occurred_at)
 ORDER BY row.org_id, row.record_id
ON CONFLICT (org_id, record_id) DO NOTHING
"""
OTHER_CONTENT: Final[LiteralString] = """
SELECT c.record_id
  FROM unnest(%(org_ids)s::text[], %(record_ids)s::uuid[], %(run_ids)s::uuid[],
              %(entries)s::bytea[], %(times)s::timestamptz[])
       AS row (org_id, record_id, run_id, entry, occurred_at)
  JOIN controlplane.audit_commitment c ON c.org_id = row.org_id AND c.record_id = row.record_id
 WHERE (c.entry, c.run_id, c.occurred_at) IS DISTINCT FROM (row.entry, row.run_id, row.occurred_at)
 LIMIT 1
"""
