"""A transaction as the owner, for commands that an operator runs: never in a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import DictRow, dict_row

from tenantplane.core.errors import DependencyUnavailable


@asynccontextmanager
async def owner_tx(owner_dsn: str) -> AsyncIterator[AsyncCursor[DictRow]]:
    """One transaction in which rows of all orgs are there, by the owner's own policies.

    Raises DependencyUnavailable.
    """
    try:
        async with await AsyncConnection.connect(owner_dsn, row_factory=dict_row) as connection:
            yield connection.cursor()
    except psycopg.OperationalError as failed:
        raise DependencyUnavailable(
            f"Postgres is not available: {type(failed).__name__}.", retry_after_seconds=2
        ) from failed
