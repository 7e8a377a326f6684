"""Mutants of what stands in the catalogue for each table: policies, flags, grants, checks, keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from tools.mutants.mutant import Mutant, role

DatabaseKind = Literal["control", "data"]

# Only tests in which rows are seen, changed or refused; none that reads the catalogue.
ROWS: Final = ("test_rls_alone.py", "test_tables.py")
GRANTS: Final = ("test_grants_alone.py",)
KEYS: Final = ("test_keys_alone.py",)
# Of policies that are more than `one's own rows`: restrictive ones.
SHELVES: Final = ("test_shelves.py::*nobody_puts",)

_TABLES: Final[LiteralString] = """
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relrowsecurity AS enabled,
       c.relforcerowsecurity AS forced
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema$)'
 ORDER BY 2
"""
_POLICIES: Final[LiteralString] = """
SELECT p.polname AS name, p.polrelid AS table,
       CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
                     WHEN 'w' THEN 'UPDATE' ELSE 'DELETE' END AS command,
       CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END AS kind,
       ARRAY(SELECT r.rolname::text FROM pg_roles r WHERE r.oid = ANY (p.polroles)) AS roles,
       pg_get_expr(p.polqual, p.polrelid) AS reads,
       pg_get_expr(p.polwithcheck, p.polrelid) AS writes
  FROM pg_policy p ORDER BY 2, 1
"""
_NOT_GRANTED: Final[LiteralString] = """
SELECT c.oid AS table, kind, privilege,
       CASE privilege WHEN 'SELECT' THEN
         ARRAY(SELECT quote_ident(a.attname) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                  AND has_column_privilege(tp.role_name(kind)::text, c.oid, a.attnum, 'SELECT'))
       ELSE '{}' END AS columns,
       privilege = 'UPDATE' AND c.relnatts = 0 AS is_void
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN unnest('{app,system,query}'::text[]) kind
 CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER}'::text[]) privilege
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema$)'
   AND NOT has_table_privilege(tp.role_name(kind)::text, c.oid, privilege)
 ORDER BY 1, 2, 3
"""
# Of tables that a role reads in part.
_COLUMNS_NOT_GRANTED: Final[LiteralString] = """
SELECT c.oid AS table, kind, quote_ident(a.attname) AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 CROSS JOIN unnest('{app,system,query}'::text[]) kind
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema$)'
   AND has_any_column_privilege(tp.role_name(kind)::text, c.oid, 'SELECT')
   AND NOT has_column_privilege(tp.role_name(kind)::text, c.oid, a.attnum, 'SELECT')
 ORDER BY 1, 2, 3
"""
_CHECKS: Final[LiteralString] = """
SELECT conrelid AS table, conname AS name, pg_get_constraintdef(oid) AS definition
  FROM pg_constraint
 WHERE contype = 'c' AND conislocal AND pg_get_constraintdef(oid) LIKE '%starts_with(%'
 ORDER BY 1, 2
"""
# Keys of tenant tables: primary, unique and foreign. A partition's are its parent's.
_UNIQUE: Final[LiteralString] = """
SELECT x.indrelid AS table, format('%I', i.relname) AS name, format('%I.%I', n.nspname, i.relname) AS full_name,
       k.conname IS NOT NULL AS is_constraint, c.relkind = 'p' AS is_partitioned,
       coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(x.indexrelid)) AS definition,
       ARRAY(SELECT format('%I', a.attname) FROM unnest(x.indkey) WITH ORDINALITY AS u (num, at)
               JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = u.num
              ORDER BY u.at) AS columns,
       coalesce((SELECT jsonb_agg(jsonb_build_array(f.conrelid::regclass::text,
                                   quote_ident(f.conname), pg_get_constraintdef(f.oid)))
                   FROM pg_constraint f
                  WHERE f.contype = 'f' AND f.conindid = x.indexrelid AND f.conparentid = 0), '[]')
         AS referrers
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_namespace n ON n.oid = i.relnamespace
  JOIN pg_class c ON c.oid = x.indrelid
  LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.contype IN ('p', 'u')
 WHERE x.indisunique AND n.nspname !~ '^(pg_|information_schema$)'
   AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = x.indexrelid)
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = x.indrelid AND a.attname = 'org_id'
                  AND a.attnum = x.indkey[0])
 ORDER BY 1, 2
"""
_FOREIGN: Final[LiteralString] = """
SELECT f.conrelid AS table, quote_ident(f.conname) AS name, pg_get_constraintdef(f.oid) AS definition,
       format('%I.%I', pn.nspname, p.relname) AS parent,
       ARRAY(SELECT format('%I', a.attname) FROM unnest(f.conkey) WITH ORDINALITY AS u (num, at)
               JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = u.num
              ORDER BY u.at) AS here,
       ARRAY(SELECT format('%I', a.attname) FROM unnest(f.confkey) WITH ORDINALITY AS u (num, at)
               JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = u.num
              ORDER BY u.at) AS there
  FROM pg_constraint f
  JOIN pg_class p ON p.oid = f.confrelid
  JOIN pg_namespace pn ON pn.oid = p.relnamespace
 WHERE f.contype = 'f' AND f.conparentid = 0
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = f.conrelid AND a.attname = 'org_id'
                  AND a.attnum = f.conkey[1])
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = f.confrelid AND a.attname = 'org_id'
                  AND a.attnum = f.confkey[1])
 ORDER BY 1, 2
"""


def table_mutants(connection: Connection[DictRow], kind: DatabaseKind) -> Iterator[Mutant]:
    """Of every table outside the system's schemas of a migrated database."""
    names: dict[int, str] = {}
    for table in _rows(connection, _TABLES):
        names[table["oid"]] = table["name"]
        if table["enabled"]:
            yield from _flags(table, kind)
    prefix = _role_prefix(connection)
    for policy in _rows(connection, _POLICIES):
        yield from _policy(policy, names[policy["table"]], kind, prefix)
    for grant in _rows(connection, _NOT_GRANTED):
        yield _widened(grant, names[grant["table"]], kind)
    for column in _rows(connection, _COLUMNS_NOT_GRANTED):
        yield _widened_by(column, names[column["table"]], kind)
    for check in _rows(connection, _CHECKS):
        yield _check(check, names[check["table"]], kind)
    for key in _rows(connection, _UNIQUE):
        yield from _unique(key, names[key["table"]], kind)
    for key in _rows(connection, _FOREIGN):
        yield _foreign(key, names[key["table"]], kind)


def _rows(connection: Connection[DictRow], query: LiteralString) -> list[DictRow]:
    return connection.execute(query).fetchall()


def _role_prefix(connection: Connection[DictRow]) -> str:
    row = connection.execute("SELECT tp.role_name('app')::text AS app").fetchone()
    assert row is not None
    return str(row["app"]).removesuffix("app")


def _aimed(files: tuple[str, ...], table: str) -> tuple[str, ...]:
    """The cases of this table in each file."""
    return tuple(f"{file}::*[{table}]" for file in files)


def _flags(table: Mapping[str, Any], kind: DatabaseKind) -> Iterator[Mutant]:
    name = table["name"]
    on, off = f"ALTER TABLE {name} ENABLE", f"ALTER TABLE {name} DISABLE"
    yield Mutant(
        f"enabled:{name}",
        f"row-level security of {name} is off",
        _aimed(ROWS, name),
        kind,
        (f"{off} ROW LEVEL SECURITY",),
        (f"{on} ROW LEVEL SECURITY",),
    )
    yield Mutant(
        f"forced:{name}",
        f"the owner of {name} is not bound by its policies",
        _aimed(ROWS, name),
        kind,
        (f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY",),
        (f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY",),
    )


def _policy(
    policy: Mapping[str, Any], table: str, kind: DatabaseKind, prefix: str
) -> Iterator[Mutant]:
    name, reads, writes = policy["name"], policy["reads"], policy["writes"]
    roles = ", ".join(role(known.removeprefix(prefix)) for known in policy["roles"]) or "PUBLIC"
    create = (
        f"CREATE POLICY {name} ON {table} AS {policy['kind']} FOR {policy['command']} TO {roles}"
        + (f" USING ({reads})" if reads else "")
        + (f" WITH CHECK ({writes})" if writes else "")
    )
    killers = _aimed(ROWS, table)
    if policy["kind"] == "RESTRICTIVE":
        killers = (*SHELVES, *killers)
    yield Mutant(
        f"policy.drop:{table}.{name}",
        f"policy {name} is gone",
        killers,
        kind,
        (f"DROP POLICY {name} ON {table}",),
        (create,),
    )
    for clause, rule, what in (("USING", reads, "reads"), ("WITH CHECK", writes, "writes")):
        if rule and rule != "true":
            yield Mutant(
                f"policy.{what}:{table}.{name}",
                f"policy {name} says {clause} (true)",
                killers,
                kind,
                (f"ALTER POLICY {name} ON {table} {clause} (true)",),
                (f"ALTER POLICY {name} ON {table} {clause} ({rule})",),
            )


def _widened(grant: Mapping[str, Any], table: str, kind: DatabaseKind) -> Mutant:
    to, privilege = grant["kind"], grant["privilege"]
    undo = [f"REVOKE {privilege} ON {table} FROM {role(to)}"]
    if grant["columns"]:  # with the table's privilege those of its columns go
        undo.append(f"GRANT SELECT ({', '.join(grant['columns'])}) ON {table} TO {role(to)}")
    return Mutant(
        f"grant:{table}.{privilege}.{to}",
        f"{to} may {privilege} {table}",
        _aimed(GRANTS, f"{kind}-{table}-{to}"),
        kind,
        (f"GRANT {privilege} ON {table} TO {role(to)}",),
        tuple(undo),
        excluded="a table of no columns: there is nothing to update" if grant["is_void"] else "",
    )


def _widened_by(column: Mapping[str, Any], table: str, kind: DatabaseKind) -> Mutant:
    to, name = column["kind"], column["name"]
    return Mutant(
        f"grant:{table}.{name}.{to}",
        f"{to} may read {name} of {table}",
        _aimed(GRANTS, f"{kind}-{table}-{to}-in-part"),
        kind,
        (f"GRANT SELECT ({name}) ON {table} TO {role(to)}",),
        (f"REVOKE SELECT ({name}) ON {table} FROM {role(to)}",),  # noqa: S608
    )


def _check(check: Mapping[str, Any], table: str, kind: DatabaseKind) -> Mutant:
    return Mutant(
        f"namespace.check:{table}.{check['name']}",
        "a stored id need not begin with its own org",
        _aimed(KEYS, table),
        kind,
        (f"ALTER TABLE {table} DROP CONSTRAINT {check['name']}",),
        (f"ALTER TABLE {table} ADD CONSTRAINT {check['name']} {check['definition']}",),
    )


def _unique(key: Mapping[str, Any], table: str, kind: DatabaseKind) -> Iterator[Mutant]:
    name, columns = key["name"], key["columns"][1:]
    if key["is_partitioned"] and columns:
        return  # Postgres itself demands the partition key org_id in it
    referrers = key["referrers"]
    drop = f"ALTER TABLE {table} DROP CONSTRAINT {name}"
    create = f"ALTER TABLE {table} ADD CONSTRAINT {name} {key['definition']}"
    if not key["is_constraint"]:
        drop, create = f"DROP INDEX {key['full_name']}", key["definition"]
    weaker: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    if columns:
        # Of orgs named twin-…, two of which the killer makes: others share ids already, and a key
        # over all of them could not be made.
        weaker = (
            f"CREATE UNIQUE INDEX mutant_key ON {table} ({', '.join(columns)})"
            " WHERE org_id LIKE 'twin-%'",
        )
        gone = (f"DROP INDEX {table.partition('.')[0]}.mutant_key",)
    yield Mutant(
        f"key:{table}.{name}",
        f"{name} is on ({', '.join(columns)})" if columns else f"{name} is gone",
        _aimed(KEYS, table),
        kind,
        (*(f"ALTER TABLE {t} DROP CONSTRAINT {c}" for t, c, _ in referrers), drop, *weaker),
        (*gone, create, *(f"ALTER TABLE {t} ADD CONSTRAINT {c} {d}" for t, c, d in referrers)),
    )


def _foreign(key: Mapping[str, Any], table: str, kind: DatabaseKind) -> Mutant:
    name, parent, here, there = key["name"], key["parent"], key["here"][1:], key["there"][1:]
    drop = f"ALTER TABLE {table} DROP CONSTRAINT {name}"
    create = f"ALTER TABLE {table} ADD CONSTRAINT {name} {key['definition']}"
    weaker: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    if here:
        weaker = (
            f"CREATE UNIQUE INDEX mutant_parent ON {parent} ({', '.join(there)})",
            f"ALTER TABLE {table} ADD CONSTRAINT mutant_reference"
            f" FOREIGN KEY ({', '.join(here)}) REFERENCES {parent} ({', '.join(there)})",
        )
        gone = (
            f"ALTER TABLE {table} DROP CONSTRAINT mutant_reference",
            f"DROP INDEX {parent.partition('.')[0]}.mutant_parent",
        )
    return Mutant(
        f"reference:{table}.{name}",
        f"{name} is ({', '.join(here)}) alone" if here else f"{name} is gone",
        (f"{KEYS[0]}::*[{table}-{parent}]",),
        kind,
        (drop, *weaker),
        (*gone, create),
    )
