"""SQL of raises and acknowledged excesses."""

from __future__ import annotations

from typing import Final, LiteralString

INSERT_RAISE: Final[LiteralString] = """
INSERT INTO controlplane.cap_raise
       (org_id, raise_id, period, extra_nanousd, begins_at, ends_at, created_by)
VALUES (%(org_id)s, %(raise_id)s, %(period)s, %(extra_nanousd)s, %(begins_at)s, %(ends_at)s,
        %(actor)s)
"""
RAISES: Final[LiteralString] = """
SELECT raise_id::text, period, extra_nanousd, begins_at, ends_at, created_by, created_at, ended_by,
       ended_at
  FROM controlplane.cap_raise WHERE org_id = %(org_id)s ORDER BY raise_id
"""
END_RAISE: Final[LiteralString] = """
UPDATE controlplane.cap_raise SET ended_by = %(actor)s, ended_at = now()
 WHERE org_id = %(org_id)s AND raise_id = %(raise_id)s AND ended_at IS NULL AND ends_at > now()
"""
# Those that come too: a plane knows the time, and must not need us when it arrives.
STANDING_RAISES: Final[LiteralString] = """
SELECT org_id, raise_id::text, period, extra_nanousd, begins_at, ends_at
  FROM controlplane.cap_raise
 WHERE org_id = ANY(%(org_ids)s) AND ended_at IS NULL AND ends_at > now()
 ORDER BY org_id, raise_id
"""
READ_ACKNOWLEDGED: Final[LiteralString] = """
SELECT excess_acknowledged_until FROM controlplane.org WHERE org_id = %(org_id)s
"""
ACKNOWLEDGE_EXCESS: Final[LiteralString] = """
UPDATE controlplane.org SET excess_acknowledged_until = %(until)s WHERE org_id = %(org_id)s
"""
