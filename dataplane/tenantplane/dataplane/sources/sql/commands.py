"""`tenantplane-dataplane sql-source create | load | list | drop`: an operator's, run as the owner."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pydantic import SecretStr

from tenantplane.core.errors import InvalidInput
from tenantplane.core.settings import ServiceSettings


class OwnerSettings(ServiceSettings):
    """What `sql-source` reads: the owner's DSN, which the running service never has."""

    owner_dsn: SecretStr  # libpq DSN of the role owner


def add_sql_source(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command to the data plane's parser; `run` of its namespace is to be awaited."""
    parser = commands.add_parser("sql-source", help="read-only SQL sources of an org, as owner")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    creating = _action(actions, "create", "make a source with empty tables", _create)
    creating.add_argument("--spec", required=True, metavar="FILE", help="YAML; - is stdin")
    loading = _action(actions, "load", "fill a table from a CSV with a header", _load)
    loading.add_argument("--table", required=True)
    loading.add_argument("--csv", required=True, metavar="FILE", help="UTF-8; - is stdin")
    loading.add_argument("--replace", action="store_true", help="in place of the rows it has")
    _action(actions, "drop", "take a source away with all its rows", _drop)

    listing = actions.add_parser("list", help="the sources of an org")
    listing.add_argument("--org", required=True)
    listing.set_defaults(run=_list)


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    what: str,
    run: object,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=what)
    parser.add_argument("--org", required=True)
    parser.add_argument("--name", required=True, help="name of the source")
    parser.set_defaults(run=run)
    return parser


# Each imports what it needs: the parser is built at every start.


async def _create(chosen: argparse.Namespace) -> None:
    from tenantplane.dataplane.sources.sql import administration, definition  # noqa: PLC0415

    with _opened(chosen.spec) as file:
        wanted = definition.read_definition(await asyncio.to_thread(file.read))
    source = administration.SourceName(chosen.org, chosen.name)
    await administration.create_source(_owner_dsn(), source, wanted)
    print(f"made {chosen.name} of {chosen.org}: {len(wanted.tables)} tables")


async def _load(chosen: argparse.Namespace) -> None:
    from tenantplane.dataplane.sources.sql import administration  # noqa: PLC0415

    source = administration.SourceName(chosen.org, chosen.name)
    with _opened(chosen.csv) as file:
        rows = await administration.load_rows(
            _owner_dsn(), source, chosen.table, file, replace=chosen.replace
        )
    print(f"{chosen.table} of {chosen.name} has {rows} rows")


async def _list(chosen: argparse.Namespace) -> None:
    from tenantplane.dataplane.sources.sql import administration  # noqa: PLC0415

    for name, definition in (await administration.list_sources(_owner_dsn(), chosen.org)).items():
        print(f"{name}: {', '.join(table.name for table in definition.tables)}")


async def _drop(chosen: argparse.Namespace) -> None:
    from tenantplane.dataplane.sources.sql import administration  # noqa: PLC0415

    source = administration.SourceName(chosen.org, chosen.name)
    await administration.drop_source(_owner_dsn(), source)
    print(f"dropped {chosen.name} of {chosen.org}")


def _owner_dsn() -> str:
    return OwnerSettings.from_environment().owner_dsn.get_secret_value()


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdin
        return
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            yield file
    except (OSError, UnicodeDecodeError) as unreadable:
        raise InvalidInput(f"{path} cannot be read: {unreadable}.") from None
