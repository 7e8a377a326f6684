"""A plane never knows less of its orgs' usage than it has reported: less is a restored backup.

The control plane keeps, by org, how many events it acknowledged and their sum. A plane whose own
count is below that has lost calls, and with them spend: what it admits would pass caps. It refuses
to serve, and its sweeper to estimate, until `ledger adopt` has brought back what is missing.

    unknown   not compared since the start: refused, for as long as the first answer takes
    unheard   the control plane is away, or too old to say: served (R86), and shown
    whole     served
    behind    refused; compared again soon, so that adopting lifts it without a restart
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol

from tenantplane.core.apis.events import OrgUsage, PlaneUsage
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable, TenantplaneError
from tenantplane.dataplane.ledger.statements import statement

_log = logging.getLogger(__name__)
_security = logging.getLogger("tenantplane.security")

COUNT: Final = system_job("ledger.count", "compares what the plane reported of all its orgs")
BEHIND: Final = "ledger_behind_control_plane"
NOT_ENROLLED: Final = "plane_not_enrolled"

_WHOLE_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 2.0
_ENROLLING_SECONDS: Final = 0.1


class Verdict(StrEnum):
    UNKNOWN = "unknown"
    UNHEARD = "unheard"
    WHOLE = "whole"
    BEHIND = "behind"


class Reporter(Protocol):
    """What the control plane has acknowledged. Raises leaves of core/errors.py."""

    async def acknowledged_usage(self) -> PlaneUsage: ...


class Watermark:
    """One per process. `run` is its background task; `require` costs nothing."""

    def __init__(self, database: Database, control: Reporter) -> None:
        self._database = database
        self._control = control
        self.verdict = Verdict.UNKNOWN

    def require(self) -> None:
        """Raises DependencyUnavailable while it is not known that this ledger is whole, unless the
        control plane cannot be heard. It names no org: whoever meets this may be anybody."""
        if self.verdict is Verdict.BEHIND:
            raise DependencyUnavailable(
                "This plane's ledger is older than what it has reported; nothing is served from it.",
                hint="Its operator brings back what is missing: tenantplane-dataplane ledger adopt.",
                code=BEHIND,
                retry_after_seconds=_AGAIN_SECONDS,
            )
        if self.verdict is Verdict.UNKNOWN:
            raise DependencyUnavailable(
                "This plane is starting: its ledger is being compared.",
                code="ledger_not_compared",
                retry_after_seconds=1,
            )

    async def probe(self) -> None:
        """`require` as a probe of readiness."""
        self.require()

    def note(self) -> str | None:
        """What readiness shows where it is served all the same."""
        if self.verdict is Verdict.UNHEARD:
            return "not compared: the control plane is not heard"
        return None

    async def run(self, interval_seconds: float = _WHOLE_SECONDS) -> None:
        """Compares at once and for ever."""
        while True:
            pause = _AGAIN_SECONDS
            try:
                if await self.compare() is Verdict.WHOLE:
                    pause = interval_seconds
            except DependencyUnavailable as away:
                _log.info("the ledger is not compared yet: %s", away.detail)
                pause = _ENROLLING_SECONDS if away.error_code == NOT_ENROLLED else _AGAIN_SECONDS
            await asyncio.sleep(pause)

    async def compare(self) -> Verdict:
        """Raises DependencyUnavailable where the plane has not enrolled, or Postgres is away; the
        verdict stands then."""
        try:
            acknowledged = await self._control.acknowledged_usage()
        except TenantplaneError as unheard:
            if unheard.error_code == NOT_ENROLLED:
                raise
            # What was found once does not become better by silence.
            if self.verdict is Verdict.UNKNOWN:
                _log.warning("the ledger cannot be compared, and is served: %s", unheard.detail)
                self.verdict = Verdict.UNHEARD
            return self.verdict
        # After the question: what is acknowledged was committed here before it was sent.
        lost = missing(acknowledged, await known_usage(self._database))
        if lost and self.verdict is not Verdict.BEHIND:
            _security.error(
                "this ledger is behind the control plane: %d events of %d orgs are missing",
                sum(lost.values()),
                len(lost),
            )
        self.verdict = Verdict.BEHIND if lost else Verdict.WHOLE
        return self.verdict


async def known_usage(database: Database) -> dict[str, OrgUsage]:
    """How many events this plane knows, by org. Raises DependencyUnavailable."""
    async with database.system_tx(COUNT) as cursor:
        await cursor.execute(statement("hold_roll_cursor"))
        position = await cursor.fetchone()
        assert position is not None
        await cursor.execute(statement("count_usage"), position)
        return {row["org_id"]: OrgUsage(**row) for row in await cursor.fetchall()}


def missing(acknowledged: PlaneUsage, known: Mapping[str, OrgUsage]) -> dict[str, int]:
    """By org, how many events the control plane has more than this plane. The plane may have more:
    those are on their way."""
    more = {
        org.org_id: org.events - (known[org.org_id].events if org.org_id in known else 0)
        for org in acknowledged.orgs
    }
    return {org_id: count for org_id, count in more.items() if count > 0}
