"""Watches a live database: what the start-up check refuses must not come true while it is served.

The whole catalogue is judged at each interval, and as soon as a table, policy or function is made
or changed, as by a migration. While a refusal stands, whoever asks `require` is refused (fail
closed); the first look that finds none lifts it, without a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, LiteralString, Protocol

import psycopg

from tenantplane.core.apis.planes import (
    ISOLATION_NOT_VERIFIED,
    LONGEST_FINDING_MESSAGE,
    LONGEST_FINDING_SUBJECT,
    MOST_FINDINGS,
    IsolationFinding,
    IsolationReport,
)
from tenantplane.core.db import doctor
from tenantplane.core.db.doctor import Finding
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable, TenantplaneError

WATCH: Final = system_job("db.watch", "sees that the catalogue changed; no tenant's rows")

# How soon a change of the catalogue is seen; one small statement each time.
_CHANGE_SECONDS: Final = 10.0
# How soon it is tried again while a refusal stands, or the database or the reader of the report is
# away.
_AGAIN_SECONDS: Final = 5.0

# Each change of a row of the catalogue gives it another xmin. A sum, since a transaction that began
# earlier may commit later: a maximum would not move.
_FINGERPRINT: Final[LiteralString] = """
SELECT concat_ws(' ',
         (SELECT count(*) || ':' || coalesce(sum(xmin::text::bigint), 0)
            FROM pg_catalog.pg_class WHERE oid >= 16384 AND relkind <> 't'),
         (SELECT count(*) || ':' || coalesce(sum(xmin::text::bigint), 0) FROM pg_catalog.pg_policy),
         (SELECT count(*) || ':' || coalesce(sum(xmin::text::bigint), 0)
            FROM pg_catalog.pg_proc WHERE oid >= 16384)) AS fingerprint
"""

_log = logging.getLogger(__name__)
_security = logging.getLogger("tenantplane.security")

Tell = Callable[[IsolationReport], Awaitable[None]]


class Catalogue(Protocol):
    """A live database's catalogue."""

    async def findings(self) -> Sequence[Finding]: ...
    async def fingerprint(self) -> str: ...


class DatabaseCatalogue:
    """The catalogue of an open Database, read as its roles of production."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def findings(self) -> Sequence[Finding]:
        """Raises DependencyUnavailable."""
        try:
            return await doctor.inspect(self._database)
        except psycopg.Error as unread:
            # Not that the server is away: then it is DependencyUnavailable. What cannot be judged is
            # not safe.
            _log.warning("the catalogue could not be read", exc_info=unread)
            return [Finding("refuse", "catalogue", f"cannot be read ({type(unread).__name__})")]

    async def fingerprint(self) -> str:
        """Another one whenever a table, policy or function has changed. Raises
        DependencyUnavailable."""
        async with self._database.system_tx(WATCH) as cursor:
            row = await (await cursor.execute(_FINGERPRINT)).fetchone()
        assert row is not None
        return str(row["fingerprint"])


class IsolationWatch:
    """One per process and database. `run` is its background task; `require` costs nothing."""

    def __init__(
        self,
        catalogue: Catalogue,
        interval_seconds: float,
        *,
        change_seconds: float = _CHANGE_SECONDS,
    ) -> None:
        self._catalogue = catalogue
        self._interval = interval_seconds
        self._change_seconds = change_seconds
        self.refused: tuple[Finding, ...] = ()

    def require(self) -> None:
        """Raises DependencyUnavailable (`isolation_not_verified`) while a refusal stands.

        It names none of them: whoever meets this may be anybody.
        """
        if self.refused:
            raise DependencyUnavailable(
                f"The check of this service's database refuses it: {len(self.refused)} finding(s). "
                "Nothing is served until it passes.",
                hint="Its log names the findings, as does 'tenantplane doctor db'.",
                code=ISOLATION_NOT_VERIFIED,
                retry_after_seconds=min(self._interval, _AGAIN_SECONDS),
            )

    async def probe(self) -> None:
        """`require` as a probe of readiness."""
        self.require()

    async def check(self) -> IsolationReport:
        """Judges the catalogue now. Raises DependencyUnavailable; what stood before stands then."""
        findings = await self._catalogue.findings()
        if _refusals(findings):
            # The catalogue is read in several statements: one that was changed in between looks
            # wrong. What is wrong still looks so the second time.
            findings = await self._catalogue.findings()
        self._note(_refusals(findings))
        return _report(findings, self._interval)

    async def run(self, tell: Tell | None = None) -> None:
        """Checks at once and for ever; `tell` hears of each check. One that it does not hear is
        made again soon."""
        while True:
            pause, seen = _AGAIN_SECONDS, None
            try:
                seen = await self._catalogue.fingerprint()  # before: no change is missed
                report = await self.check()
                if await _told(tell, report) and not self.refused:
                    pause = self._interval
            except DependencyUnavailable as away:
                _log.warning("the database could not be checked: %s", away)
            await self._changed_or_after(min(pause, self._interval), seen)

    def _note(self, refused: tuple[Finding, ...]) -> None:
        if refused != self.refused:
            for finding in refused:
                _security.error(
                    "isolation is not verified: %s %s", finding.subject, finding.message
                )
            if not refused:
                _security.warning("isolation is verified again")
        self.refused = refused

    async def _changed_or_after(self, seconds: float, seen: str | None) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while (left := end - clock()) > 0:
            await asyncio.sleep(min(left, self._change_seconds))
            if left <= self._change_seconds or await self._fingerprint() != seen:
                return

    async def _fingerprint(self) -> str | None:
        try:
            return await self._catalogue.fingerprint()
        except DependencyUnavailable:
            return None


async def _told(tell: Tell | None, report: IsolationReport) -> bool:
    if tell is None:
        return True
    try:
        await tell(report)
    except TenantplaneError as unheard:
        _log.warning("the check of the database was not reported: %s", unheard)
        return False
    return True


def _refusals(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(f for f in findings if f.severity == "refuse")


def _report(findings: Sequence[Finding], interval_seconds: float) -> IsolationReport:
    refused = len(_refusals(findings))
    first = sorted(findings, key=lambda f: f.severity)[:MOST_FINDINGS]
    return IsolationReport(
        interval_seconds=interval_seconds,
        refusals=refused,
        warnings=len(findings) - refused,
        findings=tuple(
            IsolationFinding(
                severity=f.severity,
                subject=f.subject[:LONGEST_FINDING_SUBJECT],
                message=f.message[:LONGEST_FINDING_MESSAGE],
            )
            for f in first
        ),
    )
