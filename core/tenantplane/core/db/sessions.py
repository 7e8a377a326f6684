"""Pooled sessions, and which of them SQL may have spoilt.

What SQL can leave in a session is taken away at the next check-out, in the round trip that enters
the tenant. Two things cannot be: a statement that SQL itself prepared (under the name of one of the
driver's own it would run as the next tenant), and a LISTEN, which ends at a commit alone. To look
for them costs a tenth of a millisecond, so it is done where they may be: after an error, or after
any statement whose command tag is not on the list. Behind a pooler the session is another's a
moment later; there it is looked for at each check-out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Self

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import DictRow

# Command tags (CommandComplete, "Message Formats" of Postgres' manual) of statements that end with
# their transaction, or whose traces the entry takes away. SELECT may call functions, but app can
# make none, and those that the owner made prepare nothing.
_LEAVE_NOTHING: Final = frozenset(
    {
        "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "SET", "RESET", "SHOW", "EXPLAIN",
        "DECLARE CURSOR", "FETCH", "MOVE", "CLOSE CURSOR", "LOCK TABLE", "NOTIFY",
        "SAVEPOINT", "RELEASE", "ROLLBACK",
    }
)  # fmt: skip


def leaves_nothing(tag: str | None) -> bool:
    """Whether a statement that ended with this command tag leaves nothing that outlives it."""
    return tag is not None and tag.rstrip("0123456789 ") in _LEAVE_NOTHING


class Session(AsyncConnection[DictRow]):
    """`suspect`: it is to be looked at before it serves again. `direct`: no pooler is in between."""

    suspect = True
    direct = False

    def looked_at(self) -> None:
        """It was found clean."""
        self.suspect = not self.direct


class SessionCursor(AsyncCursor[DictRow]):
    """A cursor that makes its session suspect by what it executes."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        await super().execute(query, params, **options)
        self._judge([self.statusmessage])
        if params is None and self.nextset():
            # Without parameters a text may hold several statements.
            tags = [self.statusmessage]
            while self.nextset():
                tags.append(self.statusmessage)
            self._judge(tags)
            await self.set_result(0)
        return self

    async def executemany(self, query: Any, params_seq: Iterable[Any], **options: Any) -> None:
        await super().executemany(query, params_seq, **options)
        if not leaves_nothing(self.statusmessage):
            self._suspect()

    def copy(self, *arguments: Any, **options: Any) -> Any:
        self._suspect()
        return super().copy(*arguments, **options)

    def stream(self, *arguments: Any, **options: Any) -> Any:
        self._suspect()
        return super().stream(*arguments, **options)

    def _judge(self, tags: Iterable[str | None]) -> None:
        if not all(leaves_nothing(tag) for tag in tags):
            self._suspect()

    def _suspect(self) -> None:
        connection = self.connection
        assert isinstance(connection, Session)
        connection.suspect = True
