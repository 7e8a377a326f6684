"""All mutants, found in freshly made databases and in the code as it stands."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from tenantplane.core.db.bootstrap import RolePasswords
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.provision import ContextKey, provision
from tools.mutants.code import code_mutants
from tools.mutants.functions import function_mutants
from tools.mutants.mutant import Mutant
from tools.mutants.privileges import privilege_mutants
from tools.mutants.resets import reset_mutants
from tools.mutants.statements import statement_mutants
from tools.mutants.tables import DatabaseKind, table_mutants

_PLANES: tuple[tuple[DatabaseKind, str], ...] = (
    ("control", "tenantplane.controlplane.main"),
    ("data", "tenantplane.dataplane.main"),
)


def all_mutants() -> list[Mutant]:
    found = [
        *_of_databases(),
        *reset_mutants(),
        *statement_mutants(),
        *code_mutants(),
    ]
    assert len({mutant.id for mutant in found}) == len(found), "two mutants of one id"
    return found


def _of_databases() -> Iterator[Mutant]:
    folder = Path(tempfile.mkdtemp(prefix="tenantplane-mutants-"))
    server = EmbeddedPostgres.start(folder)
    try:
        for kind, main in _PLANES:
            migrations = Path(importlib.import_module(main).__file__ or "").parent / "db/migrations"
            yield from _of_database(server, kind, migrations)
    finally:
        server.stop(immediate=True)
        shutil.rmtree(folder)


def _of_database(
    server: EmbeddedPostgres, kind: DatabaseKind, migrations: Path
) -> Iterator[Mutant]:
    passwords, key = RolePasswords.generate(), ContextKey("k1", secrets.token_bytes(32))
    made = asyncio.run(provision(server.admin_dsn(), kind, migrations, passwords, key))
    dsn = server.admin_dsn(made.bootstrapped.dbname)
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        found = [
            *table_mutants(connection, kind),
            *privilege_mutants(connection, kind),
            *function_mutants(connection, kind),
        ]
    # The schema tp and the revokes are made by the same files in both: they are taken once.
    yield from (m for m in found if kind == "data" or not _is_common(m))


def _is_common(mutant: Mutant) -> bool:
    subject = mutant.id.partition(":")[2].removeprefix("control.")
    return subject.startswith("tp.") or mutant.id.startswith("revoke:")
