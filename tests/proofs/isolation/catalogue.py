"""What is there to be proved, read from the catalogue of a migrated database, and which cases of
the suite stand for it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, LiteralString

import pytest

from tests.fixtures.isolation import PlaneDatabase

# Every table, partition, foreign table and view outside the system's schemas: none is left out by
# its name, but for the partitions that appear at run time (test_shelves.py makes and proves one).
TABLES: Final[LiteralString] = """
SELECT format('%I.%I', n.nspname, c.relname) AS subject,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id'
                  AND NOT a.attisdropped) AS is_tenant_table,
       concat_ws(', ', CASE WHEN has_any_column_privilege(app.name, c.oid, 'SELECT') THEN 'SELECT' END,
                       CASE WHEN has_any_column_privilege(app.name, c.oid, 'INSERT') THEN 'INSERT' END,
                       CASE WHEN has_any_column_privilege(app.name, c.oid, 'UPDATE') THEN 'UPDATE' END,
                       CASE WHEN has_table_privilege(app.name, c.oid, 'DELETE') THEN 'DELETE' END
       ) AS app_may,
       v.why
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT tp.role_name('app')::text AS name) app
  LEFT JOIN tp.reviewed v ON v.kind = 'shared_table'
                         AND v.subject = format('%I.%I', n.nspname, c.relname)
 WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname !~ '^(pg_|information_schema$)'
   AND NOT (c.relname ~ '^chunk_[1-9a-f][0-9a-f]*$'
            AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid
                           AND i.inhparent = to_regclass('dataplane.chunk')))
 ORDER BY 1
"""
# Whatever app may run that is not Postgres' own nor an extension's; definers in any case.
FUNCTIONS: Final[LiteralString] = """
SELECT format('%I.%I', n.nspname, p.proname) AS subject, p.prosecdef AS is_definer
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^(pg_|information_schema$)'
   AND (p.prosecdef
        OR (has_function_privilege(tp.role_name('app')::text, p.oid, 'EXECUTE')
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                               AND d.objid = p.oid AND d.deptype = 'e')))
 ORDER BY 1
"""


async def tables(database: PlaneDatabase) -> dict[str, dict[str, Any]]:
    """By name: whether it has org_id, what app may do in it, and the reason on record."""
    rows = await database.look(TABLES)
    return {row["subject"]: row for row in rows}


async def functions(database: PlaneDatabase) -> dict[str, bool]:
    """By name: whether it runs with its owner's rights."""
    rows = await database.look(FUNCTIONS)
    return {row["subject"]: row["is_definer"] for row in rows}


def require_declared(
    what: str, found: Collection[Any], declared: Collection[Any], where: str
) -> None:
    """Fails where something has no case, or a case stands for nothing any more."""
    undeclared = sorted(set(found) - set(declared))
    if undeclared:
        pytest.fail(
            f"{what} without a cross-tenant case: {undeclared}. Add one for each to {where}: what "
            "a tenant gets that reaches for another tenant's, or the reason why there is nothing "
            "to reach for."
        )
    gone = sorted(set(declared) - set(found))
    if gone:
        pytest.fail(
            f"{what} of these cases is not there any more: {gone}. Take them out of {where}."
        )
