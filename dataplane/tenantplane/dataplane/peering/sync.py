"""Keeps this replica's entitlements equal to what the control plane has signed.

Whatever happens, the stream or the poll brings, the same four things are done in this order:
verify, keep in Postgres, put in force, ask again with the new cursor. The asking again is the
acknowledgement, so nothing is acknowledged that a restart would not find. Garbage is logged and
changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tenantplane.core.apis.planes import Changes, SignedSnapshot
from tenantplane.core.apis.snapshot import Beacon, Snapshot, versions_digest
from tenantplane.core.errors import TenantplaneError
from tenantplane.dataplane.gate.entitlements import Entitlements, HeardBeacon
from tenantplane.dataplane.gate.trust import TrustedKeys
from tenantplane.dataplane.peering.backoff import Backoff
from tenantplane.dataplane.peering.documents import read_beacon, read_snapshot
from tenantplane.dataplane.peering.session import StreamEvent
from tenantplane.dataplane.peering.store import KeptBeacon, PlaneState
from tenantplane.dataplane.settings import PeeringSettings

_log = logging.getLogger(__name__)
_security = logging.getLogger("tenantplane.security")

# While a long transaction at the control plane holds its horizon back, it repeats what it sent.
_FIRST_REPEAT_SECONDS = 0.05
_LONGEST_REPEAT_SECONDS = 2.0
# Callers that are told to try again meet a version that is not there yet as often as they try: the
# control plane is asked for it once in the time that they are told to wait.
_HEARD_AGAIN_AFTER = timedelta(seconds=1)
# Signature checks between two turns of the event loop: some 5 ms of the requests' latency.
_CHECKS_PER_TURN = 25


class Keeper(Protocol):
    """Where the plane keeps what it was told (peering/store.py)."""

    async def snapshots(self) -> list[SignedSnapshot]: ...
    async def keep_snapshots(self, snapshots: list[SignedSnapshot]) -> None: ...
    async def keep_beacon(self, beacon: KeptBeacon, sequence: int) -> None: ...


class Conversation(Protocol):
    """What is asked of the control plane (peering/session.py)."""

    async def changes(self, after: int, replica: str) -> Changes: ...
    def stream(self) -> AsyncGenerator[StreamEvent, None]: ...


@dataclass(frozen=True, slots=True)
class Applied:
    """What one answer came to."""

    fresh: int
    refused: int
    beacon: Beacon | None


class Sync:
    """One per process. `now` is the database's clock."""

    def __init__(
        self,
        plane: str,
        replica: str,
        settings: PeeringSettings,
        keeper: Keeper,
        entitlements: Entitlements,
        keys: TrustedKeys,
        now: Callable[[], datetime],
    ) -> None:
        self._plane = plane
        self._replica = replica
        self._settings = settings
        self._keeper = keeper
        self._entitlements = entitlements
        self._keys = keys
        self._now = now
        self._cursor = 0
        self._wake = asyncio.Event()
        self._repeat = Backoff(_LONGEST_REPEAT_SECONDS, _FIRST_REPEAT_SECONDS)
        self._heard_at: datetime | None = None
        self._keys_refreshed_at = 0.0
        self._whole = True  # the pages being read began at cursor 0
        self.diverged = False  # a full resync did not give what the beacon says

    async def restore(self, state: PlaneState | None) -> None:
        """Puts in force what was kept: a restart with the control plane away serves (R86).

        Signatures are checked again. What a withdrawn key signed stays out until it comes anew.
        """
        if state is None or state.enrolled is None:
            return
        kept = await self._keeper.snapshots()
        for snapshot in (await self._verified(kept))[0].values():
            self._entitlements.install(snapshot)
        if state.beacon is not None:
            beacon = await self._read_beacon(state.beacon.jws)
            if beacon is not None:
                self._entitlements.hear(HeardBeacon(beacon, state.beacon.received_at))
        _log.info("restored %d of %d snapshots", len(self._entitlements.versions()), len(kept))

    def a_newer_version_is_known(self) -> None:
        """Asks at once: admission met a version of an org that is newer than the one held here,
        since another replica has it. Needs the running event loop's thread."""
        now = self._now()
        # A clock that was set back must not silence this until it has caught up.
        if self._heard_at is not None and (
            timedelta(0) <= now - self._heard_at < _HEARD_AGAIN_AFTER
        ):
            return
        self._heard_at = now
        self._wake.set()

    async def follow(self, session: Conversation) -> None:
        """Stream and poll, for ever. Raises only what is a fault of this code."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(session), name="peering.stream")
            group.create_task(self._poll(session), name="peering.poll")

    async def _listen(self, session: Conversation) -> None:
        pause = Backoff(self._settings.longest_pause_seconds)
        while True:
            try:
                await self._read_stream(session, pause)
            except TenantplaneError as broken:
                _log.warning("the stream of changes broke: %s", broken)
            await asyncio.sleep(pause.next_seconds())

    async def _read_stream(self, session: Conversation, pause: Backoff) -> None:
        # What changed while no stream was open was announced to nobody: ask once, at the first sign.
        missed_nothing = False
        async with aclosing(session.stream()) as events:
            async for event in events:
                pause.reset()
                if event.kind == "changed" or not missed_nothing:
                    missed_nothing = True
                    self._wake.set()
                if event.kind == "beacon":
                    await self._hear(event.data)

    async def _poll(self, session: Conversation) -> None:
        trouble = Backoff(self._settings.longest_pause_seconds)
        while True:
            self._wake.clear()
            try:
                await self._refresh_keys()
                seconds = await self._pull(session)
                trouble.reset()
            except TenantplaneError as failed:
                _log.warning("changes could not be had or kept: %s", failed)
                seconds = trouble.next_seconds()
            await self._woken_or_after(seconds)

    async def _pull(self, session: Conversation) -> float:
        """Asks once. Answers how many seconds to wait before asking again."""
        asked = self._cursor
        answer = await session.changes(asked, self._replica)
        applied = await self._apply(answer)
        if applied.refused:
            return self._settings.poll_seconds  # not acknowledged: the cursor stays
        self._cursor = answer.cursor
        if answer.more and answer.cursor > asked:
            return 0
        if applied.beacon is not None and self._is_out_of_step(applied.beacon):
            self._cursor, self._whole = 0, True
            return self._settings.poll_seconds if self.diverged else 0
        self._whole = False
        if applied.fresh:
            self._repeat.reset()
            return 0
        return self._repeat.next_seconds() if answer.snapshots else self._settings.poll_seconds

    async def _apply(self, answer: Changes) -> Applied:
        newer = [s for s in answer.snapshots if self._is_newer(s)]
        fresh, refused = await self._verified(newer)
        if fresh:
            # Of an org's several versions the last stands, as it does in `fresh`.
            covers = {s.org_id: s for s in newer if s.version == _version(fresh, s.org_id)}
            await self._keeper.keep_snapshots(list(covers.values()))
        for snapshot in fresh.values():
            self._entitlements.install(snapshot)
            _log.info("org %s is at version %d", snapshot.org_id, snapshot.version)
        return Applied(len(fresh), refused, await self._hear(answer.beacon))

    def _is_newer(self, signed: SignedSnapshot) -> bool:
        held = self._entitlements.version_of(signed.org_id)
        if signed.version < held:
            _security.warning(
                "snapshot %d of org %s is older than %d, which is in force: ignored",
                signed.version,
                signed.org_id,
                held,
            )
        return signed.version > held

    async def _verified(self, signed: list[SignedSnapshot]) -> tuple[dict[str, Snapshot], int]:
        """The good ones by org, the highest version of each, and how many were refused."""
        good: dict[str, Snapshot] = {}
        refused = 0
        for number, document in enumerate(signed, start=1):
            snapshot = await self._read_snapshot(document)
            if snapshot is None:
                refused += 1
            elif snapshot.version > _version(good, snapshot.org_id):
                good[snapshot.org_id] = snapshot
            if number % _CHECKS_PER_TURN == 0:
                await asyncio.sleep(0)
        return good, refused

    async def _read_snapshot(self, signed: SignedSnapshot) -> Snapshot | None:
        try:
            return await self._keys.verified(lambda keys: read_snapshot(keys, signed, self._plane))
        except TenantplaneError as refused:
            _security.error("snapshot of org %s refused: %s", signed.org_id, refused)
            return None

    async def _hear(self, jws: str) -> Beacon | None:
        beacon = await self._read_beacon(jws)
        if beacon is None:
            return None
        received_at = self._now()
        if self._entitlements.hear(HeardBeacon(beacon, received_at)):
            await self._keeper.keep_beacon(KeptBeacon(jws, received_at), beacon.sequence)
        return beacon

    async def _read_beacon(self, jws: str) -> Beacon | None:
        try:
            return await self._keys.verified(lambda keys: read_beacon(keys, jws, self._plane))
        except TenantplaneError as refused:
            _security.error("beacon refused: %s", refused)
            return None

    def _is_out_of_step(self, beacon: Beacon) -> bool:
        """Whether the beacon of a complete answer says other versions than are in force here.

        Only beacons of answers are compared: one of the stream may be ahead of the next answer.
        """
        same = beacon.versions_sha256 == versions_digest(self._entitlements.versions())
        if same:
            self.diverged = False
        elif self._whole:
            self.diverged = True
            _log.error(
                "a full resync left %d orgs where the control plane has %d: versions differ",
                len(self._entitlements.versions()),
                beacon.orgs,
            )
        else:
            _log.warning("versions differ from the beacon's: resynchronising whole")
        return not same

    async def _refresh_keys(self) -> None:
        elapsed = asyncio.get_running_loop().time()
        due = self._keys_refreshed_at + self._settings.keys_refresh_seconds
        if self._keys_refreshed_at and elapsed < due:
            return
        try:
            await self._keys.refresh()
        except (TenantplaneError, ValueError) as failed:
            _log.warning("the control plane's keys could not be refreshed: %s", failed)
            return
        self._keys_refreshed_at = elapsed

    async def _woken_or_after(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            # Not by wait_for, which in Python 3.11 forgets to be cancelled where it is woken too.
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return


def _version(snapshots: dict[str, Snapshot], org_id: str) -> int:
    held = snapshots.get(org_id)
    return held.version if held else 0
