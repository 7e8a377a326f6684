"""Mutants of what the bootstrap takes from everybody, and of what the roles are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from tools.mutants.mutant import Mutant, role
from tools.mutants.tables import DatabaseKind

REVOKES: Final = ("test_revokes_alone.py",)

# What PUBLIC had when the server was made (pg_init_privs), or by default, and has not any more.
_REVOKED_FUNCTIONS: Final[LiteralString] = """
SELECT p.oid::regprocedure::text AS subject,
       has_function_privilege(tp.role_name('app')::text, p.oid, 'EXECUTE') AS open_to_app
  FROM pg_proc p
 WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0
   AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
   AND NOT EXISTS (SELECT FROM pg_init_privs i WHERE i.classoid = 'pg_proc'::regclass
                      AND i.objoid = p.oid)
   -- Such are called by the server alone, whatever is granted.
   AND p.prorettype <> 'trigger'::regtype AND NOT 'internal'::regtype = ANY (p.proargtypes)
 ORDER BY 1
"""
_REVOKED_RELATIONS: Final[LiteralString] = """
SELECT c.oid::regclass::text AS subject,
       has_table_privilege(tp.role_name('app')::text, c.oid, 'SELECT') AS open_to_app
  FROM pg_class c
 WHERE c.relnamespace = 'pg_catalog'::regnamespace
   AND NOT has_table_privilege('public', c.oid, 'SELECT')
   AND EXISTS (SELECT FROM pg_init_privs i, aclexplode(i.initprivs) x
                WHERE i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = 0
                  AND x.grantee = 0 AND x.privilege_type = 'SELECT')
 ORDER BY 1
"""
# The same, where PUBLIC had single columns of it.
_REVOKED_COLUMNS: Final[LiteralString] = """
SELECT c.oid::regclass::text AS subject, string_agg(quote_ident(a.attname), ', ') AS columns
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid
  JOIN pg_init_privs i ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid
                      AND i.objsubid = a.attnum
 WHERE EXISTS (SELECT FROM aclexplode(i.initprivs) x
                WHERE x.grantee = 0 AND x.privilege_type = 'SELECT')
   AND NOT has_column_privilege('public', c.oid, a.attnum, 'SELECT')
 GROUP BY c.oid ORDER BY 1
"""
_CLOSED_FUNCTIONS: Final[LiteralString] = """
SELECT p.oid::regprocedure::text AS signature, kind
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 CROSS JOIN unnest('{app,query}'::text[]) kind
 WHERE n.nspname !~ '^(pg_|information_schema$)'
   AND NOT has_function_privilege(tp.role_name(kind)::text, p.oid, 'EXECUTE')
   AND p.prorettype <> 'trigger'::regtype  -- called by the server alone, whatever is granted
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
 ORDER BY 1, 2
"""
_CLOSED_SCHEMAS: Final[LiteralString] = """
SELECT format('%I', n.nspname) AS schema, kind
  FROM pg_namespace n CROSS JOIN unnest('{app,system,query}'::text[]) kind
 WHERE n.nspname !~ '^(pg_|information_schema$)'
   AND NOT has_schema_privilege(tp.role_name(kind)::text, n.oid, 'CREATE')
 ORDER BY 1, 2
"""
_OF_MODEL: Final = "sql of a model: "
# Powers that a role has not got, each with what takes it away again.
_POWERS: Final = {
    "SUPERUSER": "NOSUPERUSER",
    "BYPASSRLS": "NOBYPASSRLS",
    "CREATEROLE": "NOCREATEROLE",
    "CREATEDB": "NOCREATEDB",
}


def privilege_mutants(connection: Connection[DictRow], kind: DatabaseKind) -> Iterator[Mutant]:
    """Of a bootstrapped database."""
    for query, privilege, noun in (
        (_REVOKED_FUNCTIONS, "EXECUTE ON FUNCTION", "call"),
        (_REVOKED_RELATIONS, "SELECT ON TABLE", "read"),
    ):
        for family, subjects in _families(connection.execute(query).fetchall()).items():
            whom = "model" if family.startswith(_OF_MODEL) else "app"
            yield _granted(
                f"revoke:{kind}.{noun} {family}",
                f"everybody may {noun} {', '.join(subjects)[:80]}",
                f"*dangerous*{whom}",
                kind,
                f"{privilege} {', '.join(subjects)}",
            )
    for row in connection.execute(_REVOKED_COLUMNS):
        subject, columns = row["subject"], row["columns"]
        yield _granted(
            f"revoke:{kind}.read columns of {subject}",
            f"everybody may read {columns[:60]} of {subject}",
            "*dangerous*model",
            kind,
            f"SELECT ({columns}) ON TABLE {subject}",
        )
    yield from _objects(connection, kind)
    yield from _database(kind)
    yield from _roles(kind)


def _families(rows: list[DictRow]) -> dict[str, list[str]]:
    """What app may not use either: each by itself. What SQL of a model alone may not: by the first
    two words of its name, since there are hundreds."""
    families: dict[str, list[str]] = {}
    for row in rows:
        subject = row["subject"]
        name = subject.strip('"').partition("(")[0]
        of_model = _OF_MODEL + "_".join(name.split("_")[:2])
        families.setdefault(of_model if row["open_to_app"] else subject, []).append(subject)
    return families


def _objects(connection: Connection[DictRow], kind: DatabaseKind) -> Iterator[Mutant]:
    for row in connection.execute(_CLOSED_FUNCTIONS):
        signature, to = row["signature"], row["kind"]
        yield _granted(
            f"execute:{kind}.{signature}.{to}",
            f"{to} may call {signature}",
            "*closed*",
            kind,
            f"EXECUTE ON FUNCTION {signature}",
            role(to),
        )
    for row in connection.execute(_CLOSED_SCHEMAS):
        schema, to = row["schema"], row["kind"]
        yield _granted(
            f"create:{kind}.{schema}.{to}",
            f"{to} may make tables and functions in {schema}",
            "*nothing_is_made*",
            kind,
            f"CREATE ON SCHEMA {schema}",
            role(to),
        )


def _database(kind: DatabaseKind) -> Iterator[Mutant]:
    for privilege, test in (("TEMP", "nothing_is_made"), ("CONNECT", "stranger")):
        yield _granted(
            f"database:{kind}.{privilege}",
            f"everybody has {privilege} on the database",
            f"*{test}*",
            kind,
            f"{privilege} ON DATABASE @database@",
        )


def _granted(
    name: str, weakens: str, test: str, kind: DatabaseKind, what: str, to: str = "PUBLIC"
) -> Mutant:
    return Mutant(
        name,
        weakens,
        (f"{REVOKES[0]}::{test}[{kind}]",),
        kind,
        (f"GRANT {what} TO {to}",),
        (f"REVOKE {what} FROM {to}",),
    )


def _roles(kind: DatabaseKind) -> Iterator[Mutant]:
    killers = (f"{REVOKES[0]}::*powers*[{kind}]",)
    for power, taken in _POWERS.items():
        yield Mutant(
            f"role:{kind}.app.{power}",
            f"app has {power}",
            killers,
            kind,
            (f"ALTER ROLE {role('app')} {power}",),
            (f"ALTER ROLE {role('app')} {taken}",),
        )
    for other in ("owner", "system", "backup"):
        yield Mutant(
            f"role:{kind}.app.member_of_{other}",
            f"app is a member of {other}",
            killers,
            kind,
            (f"GRANT {role(other)} TO {role('app')}",),
            (f"REVOKE {role(other)} FROM {role('app')}",),
        )
