"""The only ways into a logical database: as one tenant, as a named system job, to append, to listen.

A transaction is the unit of work: it commits when the block ends, and rolls back on any exception,
cancellation included. Where the connection dies during the commit itself the outcome is unknown and
DependencyUnavailable is raised: writes must be idempotent by their own keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString, NoReturn

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection, AsyncCursor, sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from tenantplane.core.db import doctor
from tenantplane.core.db.clock import DatabaseClock
from tenantplane.core.db.doctor import Finding
from tenantplane.core.db.jobs import require_registered
from tenantplane.core.db.proof import Proofs
from tenantplane.core.db.sessions import Session, SessionCursor
from tenantplane.core.db.settings import DatabaseSettings
from tenantplane.core.db.statements import statement
from tenantplane.core.errors import ConfigurationRefused, DependencyUnavailable, FieldError
from tenantplane.core.turns import Turns

_log = logging.getLogger(__name__)

_RETRY_AFTER_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

# One round trip opens the transaction, takes away whatever an earlier user of the session may have
# left in it (injected SQL can SET without LOCAL, LISTEN, hold a cursor over its commit), and says
# who the tenant is. BEGIN names its characteristics: defaults that somebody left in the session
# would count before RESET ALL could end them. DISCARD ALL, which does the same and more, may not
# stand in a transaction, and would throw away psycopg's prepared statements at every check-out.
# What it cannot take away is looked for where it may be: see core/db/sessions.py.
_ENTER_TENANT = statement("enter_tenant")
_ENTER_SYSTEM = statement("enter_system")
_LOOK_AT_SESSION = statement("look_at_session")
# Statements that psycopg prepared and that are gone, or that another client of the pooler's server
# connection has: this session is of no use to anybody.
_LOST_STATEMENTS = (
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
)
_READ_CLOCK: LiteralString = """
SELECT extract(epoch FROM clock_timestamp())::float8 AS unix, pg_backend_pid() AS session
"""


class TenantCursor(SessionCursor):
    """A cursor inside one tenant's transaction. `org_id` goes into the SQL too, as a parameter:
    under RLS alone the planner scans all partitions."""

    def __init__(self, connection: Session, org_id: str) -> None:
        super().__init__(connection, row_factory=dict_row)
        self.org_id = org_id


class Database:
    """A logical database, entered as the roles of production."""

    def __init__(self, settings: DatabaseSettings, *, name: str) -> None:
        self.name = name
        self.clock = DatabaseClock()
        self._settings = settings
        key = settings.context_key_bytes()
        self._proofs = Proofs(settings.context_key_id, key, self.clock.unix)
        self._shares = _shares(settings)
        self._app = self._pool(settings.app_dsn.get_secret_value(), "app")
        self._system = self._pool(settings.system_dsn.get_secret_value(), "system")

    async def open(self) -> None:
        """Opens the pools, reads the database's clock and checks the catalogue.

        Raises DependencyUnavailable where the server does not answer in `pool_wait_seconds`, and
        ConfigurationRefused, naming every reason, where a role or a table is not safe.
        """
        try:
            findings = await self.examine()
            refused = tuple(
                FieldError(f.subject, f.message) for f in findings if f.severity == "refuse"
            )
            if refused:
                raise ConfigurationRefused(
                    f"Database {self.name!r} is not safe to serve: "
                    + "; ".join(f"{e.path}: {e.message}" for e in refused),
                    hint="Run the bootstrap and the migrations, then 'tenantplane doctor db'.",
                    errors=refused,
                )
        except BaseException:
            await self.close()
            raise

    async def examine(self) -> list[Finding]:
        """Opens the pools and says what `open` would judge, for who only wants to know; close it
        afterwards.

        Raises DependencyUnavailable, ConfigurationRefused (a catalogue that cannot be read).
        """
        try:
            with self._translated():
                for pool in (self._app, self._system):
                    await pool.open(wait=True, timeout=self._settings.pool_wait_seconds)
                return await doctor.inspect(self)
        except psycopg.ProgrammingError as unreadable:
            raise ConfigurationRefused(
                f"The catalogue of database {self.name!r} cannot be read: {_kind(unreadable)}.",
                hint="Run the bootstrap and the migrations of this version.",
            ) from unreadable

    async def close(self) -> None:
        """Closes the pools; safe to call twice, or after a failed `open`."""
        await self._app.close()
        await self._system.close()

    @property
    def context_key_id(self) -> str:
        """The name of the key that signs this service's tenant contexts."""
        return self._settings.context_key_id

    def proof_for(self, org_id: str) -> str:
        """A proof for `org_id` that the database accepts for the next 55 seconds.

        Raises ValueError where `org_id` is not an org id.
        """
        return self._proofs.of(org_id)

    @asynccontextmanager
    async def tenant_tx(self, org_id: str) -> AsyncIterator[TenantCursor]:
        """One transaction as the app role, in which only rows of `org_id` exist.

        Raises DependencyUnavailable (no connection in time, or it broke; `org_busy`: the org holds
        its share of them).
        """
        context = (org_id, self.proof_for(org_id))
        async with (
            self._shares.of(org_id),
            self._transaction(self._app, _ENTER_TENANT, context) as connection,
        ):
            yield TenantCursor(connection, org_id)

    @asynccontextmanager
    async def system_tx(self, job: str) -> AsyncIterator[AsyncCursor[DictRow]]:
        """One transaction as the system role, for a job registered with `system_job`.

        Raises LookupError (job not registered), DependencyUnavailable.
        """
        require_registered(job)
        async with self._transaction(self._system, _ENTER_SYSTEM, (job,)) as connection:
            yield connection.cursor()

    @asynccontextmanager
    async def unscoped_tx(self) -> AsyncIterator[AsyncCursor[DictRow]]:
        """One transaction as the app role with no tenant: tenant tables are empty in it.

        For rows that belong to no org (shared tables) and for the start-up check.
        """
        async with self._transaction(self._app, _ENTER_TENANT, ("", "")) as connection:
            yield connection.cursor()

    @asynccontextmanager
    async def append_connection(self) -> AsyncIterator[AsyncConnection[DictRow]]:
        """A connection of its own, as app, in autocommit and without a tenant: for group commit.

        It can only call append functions (SECURITY DEFINER), which take a proof for each row. When
        it breaks, DependencyUnavailable is raised: enter again to reconnect.
        """
        with self._translated():
            connection = await self._connect(self._settings.app_dsn.get_secret_value(), "append")
            try:
                yield connection
            finally:
                await connection.close()

    async def listen(self, channel: str) -> AsyncGenerator[str, None]:
        """Payloads notified on `channel`, for ever, on a system connection of its own.

        Yields `""` after each (re)connection: what was notified meanwhile is lost, so read the
        truth again. An unreachable server is tried again with pauses of up to 5 s.
        """
        dsn = self._settings.listen_dsn or self._settings.system_dsn
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                async with await self._connect(dsn.get_secret_value(), "listen") as connection:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    pause = _FIRST_PAUSE_SECONDS
                    yield ""
                    async for notice in connection.notifies():
                        yield notice.payload
            except psycopg.Error as broken:
                # Whatever it is: nobody else listens in this one's place.
                _log.warning("listen on %s of %s broke: %s", channel, self.name, _kind(broken))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _pool(self, dsn: str, use: str) -> AsyncConnectionPool[Session]:
        return AsyncConnectionPool(
            dsn,
            connection_class=Session,
            open=False,
            min_size=self._settings.pool_min,
            max_size=self._settings.pool_max,
            timeout=self._settings.pool_wait_seconds,
            name=f"{self.name}-{use}",
            kwargs=self._connect_arguments(use)
            | {"autocommit": True, "cursor_factory": SessionCursor},  # the entry says BEGIN
            configure=self._configure,
        )

    def _connect_arguments(self, use: str) -> dict[str, Any]:
        return {
            "row_factory": dict_row,
            "prepare_threshold": self._settings.prepare_threshold,
            "application_name": f"tenantplane-{self.name}-{use}",
            "connect_timeout": max(2, int(self._settings.pool_wait_seconds)),
        }

    async def _connect(self, dsn: str, use: str) -> AsyncConnection[DictRow]:
        connection = await AsyncConnection[DictRow].connect(
            dsn, autocommit=True, **self._connect_arguments(use)
        )
        await self._synchronise(connection)
        return connection

    async def _configure(self, session: Session) -> None:
        # A pooler answers with a process id of its own making.
        session.direct = await self._synchronise(session) == session.info.backend_pid

    async def _synchronise(self, connection: AsyncConnection[DictRow]) -> int:
        """Reads the database's clock; answers the process id of the session's server side."""
        before = self.clock.elapsed()
        row = await (await connection.execute(_READ_CLOCK)).fetchone()
        after = self.clock.elapsed()
        assert row is not None
        self.clock.synchronise(row["unix"], before, after)
        return int(row["session"])

    @asynccontextmanager
    async def _transaction(
        self,
        pool: AsyncConnectionPool[Session],
        entry: LiteralString,
        context: tuple[str, ...],
    ) -> AsyncIterator[Session]:
        with self._translated():
            cancelled = _cancellations()
            async with pool.connection() as session:
                if _cancellations() > cancelled:
                    # Python 3.11's asyncio.wait_for, by which the pool waits, forgets one that
                    # comes together with the connection: the caller is gone, and nobody else ends it.
                    raise asyncio.CancelledError
                await self._enter(session, entry, context)
                try:
                    yield session
                except _LOST_STATEMENTS as lost:
                    await self._drop(session, lost)
                except BaseException:
                    # A text of several statements may have done some of them before it failed.
                    session.suspect = True
                    raise

    async def _enter(
        self, session: Session, entry: LiteralString, context: tuple[str, ...]
    ) -> None:
        # Bound by the client: only so may several statements share a round trip.
        entering = AsyncClientCursor(session, row_factory=dict_row)
        try:
            await entering.execute(entry, context)
            if session.suspect:
                # Within the transaction: a pooler gives the next one to another session.
                found = await (await entering.execute(_LOOK_AT_SESSION)).fetchone()
                if found is None or found["spoilt"]:
                    await self._drop(session, None)
                session.looked_at()
        except psycopg.Error as refused:
            if session.closed:
                raise  # the server's end, and nobody's residue
            await self._drop(session, refused)

    async def _drop(
        self, connection: AsyncConnection[DictRow], why: psycopg.Error | None
    ) -> NoReturn:
        """Ends a session that must never serve anybody again."""
        await connection.close()
        _log.warning(
            "a session of %s was spoilt and is dropped: %s",
            self.name,
            _kind(why) if why else "SQL left a prepared statement or a LISTEN in it",
        )
        raise DependencyUnavailable(
            f"A connection to {self.name!r} was spoilt and is dropped.",
            hint="Behind PgBouncer older than 1.21 set prepared_statements to false."
            if isinstance(why, _LOST_STATEMENTS)
            else None,
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        ) from why

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.OperationalError as failed:
            raise DependencyUnavailable(
                f"Postgres ({self.name}) is not available: {_kind(failed)}.",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            ) from failed


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def pool_share(size: int) -> int:
    """How many sessions of a pool one org may hold at a time: all but a fifth, so that slow queries
    of one leave some to its neighbours. A pool of two or fewer cannot be shared out, and is not."""
    return size if size <= 2 else size - max(1, size // 5)


def _shares(settings: DatabaseSettings) -> Turns:
    each = pool_share(settings.pool_max)
    return Turns(
        each=each,
        wait_seconds=settings.pool_wait_seconds,
        busy=lambda: DependencyUnavailable(
            f"Your org has {each} requests at work in the database, as many as it may.",
            hint="Try again, with fewer at once.",
            code="org_busy",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        ),
    )


def _kind(error: psycopg.Error) -> str:
    # Not the message: it may name hosts, users and rows.
    return f"{type(error).__name__} {error.sqlstate}" if error.sqlstate else type(error).__name__
