"""The fence between Postgres, which is the truth, and Valkey, which may forget.

    Valkey answers EPOCH (restart, promotion, flush, another process began a newer one)
      → Postgres knows a higher epoch than this process: adopt it
      → it does not: raise it there, then begin it in Valkey, once
    Valkey answers NOTINSTALLED for a root
      → wait until no transaction older than the raise is left (barrier)
      → read settled amounts and open calls in one snapshot, install them

An intent is only committed under the epoch in force, so whatever was admitted before a raise is
either read by the install, or refused at its commit. Dying anywhere in between is harmless: the
next process finds EPOCH or NOTINSTALLED and does it again, under a higher epoch if need be.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.core.valkey.answers import (
    Admitted,
    AlreadySettled,
    Begun,
    EpochLost,
    ExpiredHold,
    NoHold,
    NotInstalled,
    Refused,
    Settled,
    Spend,
    Stale,
)
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.requests import AdmitRequest, Level, Stage
from tenantplane.dataplane.ledger.installation import read_installation
from tenantplane.dataplane.ledger.statements import statement

_log = logging.getLogger(__name__)

EPOCH = system_job("ledger.epoch", "one epoch fences the Valkey that all orgs of the plane share")

# A rebuild takes some milliseconds, unless a long transaction is in its way: then 503, bounded.
HEALING_SECONDS = 10.0
_BARRIER_PAUSE_SECONDS = 0.01
# Whoever raised the epoch begins it a moment later; raising again would only chase it.
_RAISER_GRACE_SECONDS = 0.5
_RAISER_PAUSE_SECONDS = 0.05
_QUICK_FAILURE_SECONDS = 0.1

# A union is made anew wherever it is written.
_ILL: Final = (EpochLost, NotInstalled)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _EpochRow:
    epoch: int
    age_seconds: float


class FencedStore:
    """The admission store under the epoch in force; heals what can be healed, else 503."""

    def __init__(self, database: Database, store: AdmissionStore) -> None:
        self._database = database
        self._store = store
        self._epoch: int | None = None
        self._barrier_passed_for: int | None = None
        self._renewing = asyncio.Lock()
        self._installing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # Snapshot versions by root and org that admissions used: an install must not forget that a
        # newer one suspended an org or lowered its cap.
        self._versions: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._installed: dict[str, int] = {}  # by root: how often this process installed it

    @property
    def known_epoch(self) -> int:
        """Most likely the one in force; 0 before the first call."""
        return self._epoch or 0

    def admit(
        self, request: AdmitRequest
    ) -> Coroutine[Any, Any, tuple[Admitted | Refused | Stale, int]]:
        """The answer, and the epoch under which it was given, which the intent must carry.

        `request.epoch` is a guess, which spares a copy (`known_epoch`). Raises DependencyUnavailable.
        """
        versions = self._versions[request.root_org_id]
        if versions.get(request.org_id, 0) < request.snapshot_version:
            versions[request.org_id] = request.snapshot_version
        return self._fenced(
            request.root_org_id,
            lambda epoch: self._store.admit(
                request if request.epoch == epoch else replace(request, epoch=epoch)
            ),
        )

    async def settle(
        self,
        root_org_id: str,
        hold_id: str,
        stage: Stage,
        nanousd: int,
        tokens: int | None = None,
    ) -> Settled | AlreadySettled | NoHold:
        """Raises DependencyUnavailable."""
        answered: tuple[Settled | AlreadySettled | NoHold, int] = await self._fenced(
            root_org_id,
            lambda epoch: self._store.settle(root_org_id, epoch, hold_id, stage, nanousd, tokens),
        )
        return answered[0]

    async def release(
        self, root_org_id: str, hold_id: str, *, expired_only: bool = False
    ) -> Settled | AlreadySettled | NoHold:
        """Raises DependencyUnavailable."""
        answered: tuple[Settled | AlreadySettled | NoHold, int] = await self._fenced(
            root_org_id,
            lambda epoch: self._store.release(
                root_org_id, epoch, hold_id, expired_only=expired_only
            ),
        )
        return answered[0]

    async def spend(self, root_org_id: str, levels: Sequence[Level]) -> Spend:
        """Raises DependencyUnavailable."""
        answer, _ = await self._fenced(
            root_org_id, lambda epoch: self._store.spend(root_org_id, epoch, levels)
        )
        return answer

    async def expired(self, root_org_id: str, limit: int) -> tuple[ExpiredHold, ...]:
        """Holds past their deadline. None where the root is not installed: there are no holds, and
        a look at them is no reason to rebuild. Raises DependencyUnavailable."""
        epoch = self._epoch if self._epoch is not None else await self.refresh()
        answer = await self._store.expired(root_org_id, epoch, limit)
        return () if isinstance(answer, EpochLost | NotInstalled) else answer

    async def refresh(self) -> int:
        """Reads the epoch in force from Postgres; after an intent was refused for its epoch."""
        async with self._renewing:
            return await self._adopt((await self._read_epoch()).epoch)

    async def rebuild(self) -> None:
        """Begins a new epoch, so that every root is installed anew from Postgres.

        Raises DependencyUnavailable.
        """
        known = await self.refresh()
        async with self._renewing:
            await self._raise_and_begin(known, known)

    async def _fenced(
        self,
        root_org_id: str,
        call: Callable[[int], Awaitable[Answer | EpochLost | NotInstalled]],
    ) -> tuple[Answer, int]:
        """The answer, and the epoch under which it was given. Only a bad one goes the long way."""
        epoch = self._epoch
        if epoch is None:
            return await self._healed(root_org_id, call)
        installed = self._installed.get(root_org_id, 0)
        started = time.monotonic()
        try:
            answer = await call(epoch)
        except DependencyUnavailable:
            if time.monotonic() - started > _QUICK_FAILURE_SECONDS:
                raise  # as in `_twice`
            return await self._healed(root_org_id, call)
        if isinstance(answer, _ILL):
            return await self._healed(root_org_id, call, (answer, epoch, installed))
        return answer, epoch

    async def _healed(
        self,
        root_org_id: str,
        call: Callable[[int], Awaitable[Answer | EpochLost | NotInstalled]],
        ill: tuple[EpochLost | NotInstalled, int, int] | None = None,
    ) -> tuple[Answer, int]:
        """The answer once it is none of these, within bounds. `ill` is such an answer, the epoch
        under which it was given, and how often the root was installed before it was asked for."""
        try:
            async with asyncio.timeout(HEALING_SECONDS):
                while True:
                    if ill is not None:
                        await self._heal(root_org_id, *ill)
                    epoch = self._epoch if self._epoch is not None else await self.refresh()
                    installed = self._installed.get(root_org_id, 0)
                    answer = await _twice(call, epoch)
                    if not isinstance(answer, _ILL):
                        return answer, epoch
                    ill = (answer, epoch, installed)
        except TimeoutError:
            raise DependencyUnavailable(
                f"Limits could not be rebuilt in {HEALING_SECONDS:.0f} s.",
                hint="Nothing is admitted until they are; try again.",
                retry_after_seconds=1,
            ) from None

    async def _heal(
        self, root_org_id: str, answer: EpochLost | NotInstalled, epoch: int, installed: int
    ) -> None:
        if isinstance(answer, EpochLost):
            await self._renew(epoch, answer.open_epoch)
        else:
            await self._install(root_org_id, epoch, installed)

    async def _renew(self, lost: int, open_epoch: int | None) -> None:
        async with self._renewing:
            if self._epoch != lost:
                return  # another task of this process was faster
            row = await self._read_epoch()
            if row.epoch != lost:
                await self._adopt(row.epoch)
                return
            # The age is read, not the host's clock; 0 to the grace only, so that a clock that was
            # set back does not make everyone wait.
            if (open_epoch or 0) < lost and 0 <= row.age_seconds < _RAISER_GRACE_SECONDS:
                await asyncio.sleep(_RAISER_PAUSE_SECONDS)
                return
            await self._raise_and_begin(lost, open_epoch)

    async def _raise_and_begin(self, known: int, open_epoch: int | None) -> None:
        async with self._database.system_tx(EPOCH) as cursor:
            await cursor.execute(
                statement("raise_epoch"), {"known": known, "open_epoch": open_epoch or 0}
            )
            raised = await cursor.fetchone()
        if raised is None:
            return  # another process raised it: the next answer leads to adopting that one
        _log.warning("ledger epoch raised from %s to %s", known, raised["epoch"])
        # Adopted before Valkey is asked: should its answer be lost, the next caller finds EPOCH and
        # raises once more. begin_epoch itself is never repeated for one epoch: a repeat could open
        # a server that has restarted in between, with old data.
        await self._adopt(raised["epoch"])
        begun = await self._store.begin_epoch(raised["epoch"])
        if not isinstance(begun, Begun):
            _log.warning("Valkey has epoch %s open already", begun.open_epoch)

    async def _adopt(self, epoch: int) -> int:
        self._epoch = epoch
        return epoch

    async def _read_epoch(self) -> _EpochRow:
        async with self._database.system_tx(EPOCH) as cursor:
            await cursor.execute(statement("read_epoch"))
            row = await cursor.fetchone()
        if row is None:
            raise DependencyUnavailable(
                "The ledger has no epoch.", hint="Run the migrations.", retry_after_seconds=5
            )
        return _EpochRow(row["epoch"], row["age_seconds"])

    async def _install(self, root_org_id: str, epoch: int, installed_before: int) -> None:
        async with self._installing[root_org_id]:
            if self._installed.get(root_org_id, 0) != installed_before:
                return  # another task of this process was faster
            await self._pass_barrier(epoch)
            installation = await read_installation(
                self._database, root_org_id, epoch, self._versions[root_org_id]
            )
            await self._store.install(installation)  # whoever is first counts; all read the same
            self._installed[root_org_id] = installed_before + 1

    async def _pass_barrier(self, epoch: int) -> None:
        """Waits until each transaction that may have read an older epoch is over.

        Once per epoch and process: later ones can only have read this epoch.
        """
        if self._barrier_passed_for == epoch:
            return
        await wait_for_older_transactions(self._database)
        self._barrier_passed_for = epoch


async def _twice(call: Callable[[int], Awaitable[Answer]], epoch: int) -> Answer:
    """Once more where a pooled connection had died unnoticed, as after the server's restart. What
    comes here may be repeated: holds and settlements are known by their id."""
    started = time.monotonic()
    try:
        return await call(epoch)
    except DependencyUnavailable:
        if time.monotonic() - started > _QUICK_FAILURE_SECONDS:
            raise  # a server that is slow or away is not asked twice in one request
    return await call(epoch)


async def wait_for_older_transactions(database: Database) -> None:
    """Waits until every transaction that has an id now is over.

    The barrier is an id of our own. `pg_snapshot_xmax` is no barrier: it is one past the last
    completed id, and leaves out a running transaction that is newer than that.
    """
    async with database.system_tx(EPOCH) as cursor:
        await cursor.execute(statement("take_barrier"))
        row = await cursor.fetchone()
    assert row is not None
    barrier = row["barrier"]
    while True:
        async with database.system_tx(EPOCH) as cursor:
            await cursor.execute(statement("passed_barrier"), {"barrier": barrier})
            row = await cursor.fetchone()
        if row is not None and row["passed"]:
            return
        await asyncio.sleep(_BARRIER_PAUSE_SECONDS)
