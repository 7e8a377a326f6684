"""The follower of the control plane against a scripted conversation: what it accepts, keeps,
acknowledges and refuses. No clock is waited for: a conversation that has said all ends the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from tenantplane.core.apis.planes import Changes, Enrolled, SignedSnapshot
from tenantplane.core.apis.snapshot import (
    BEACON_TYP,
    SNAPSHOT_TYP,
    Beacon,
    Level,
    Snapshot,
    versions_digest,
)
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.core.keys.signing import SigningKey
from tenantplane.dataplane.gate.entitlements import Entitlements
from tenantplane.dataplane.gate.trust import TrustedKeys
from tenantplane.dataplane.peering.session import StreamEvent
from tenantplane.dataplane.peering.store import KeptBeacon, PlaneState
from tenantplane.dataplane.peering.sync import Sync
from tenantplane.dataplane.settings import PeeringSettings

KEY = SigningKey.generate()
STRANGER = SigningKey.generate()
NOW = datetime(2026, 2, 1, tzinfo=UTC)


def snapshot(org: str, version: int, **changed: object) -> Snapshot:
    fields: dict[str, object] = {
        "org_id": org,
        "root_org_id": org,
        "version": version,
        "issued_at": NOW,
        "status": "active",
        "plane": "p1",
        "region": "local",
        "plan": "starter",
        "token_epoch": 0,
        "max_offline_seconds": 900,
        "price_book_version": 1,
        "levels": (Level(kind="org", id=org),),
    }
    return Snapshot.model_validate(fields | changed)


def signed(given: Snapshot, key: SigningKey = KEY, **cover: object) -> SignedSnapshot:
    document = {
        "org_id": given.org_id,
        "version": given.version,
        "jws": key.sign(given.model_dump(mode="json"), SNAPSHOT_TYP),
    }
    return SignedSnapshot.model_validate(document | cover)


def beacon(sequence: int, versions: dict[str, int], plane: str = "p1") -> str:
    document = Beacon(
        plane=plane,
        sequence=sequence,
        issued_at=NOW + timedelta(seconds=sequence),
        orgs=len(versions),
        versions_sha256=versions_digest(versions),
    )
    return KEY.sign(document.model_dump(mode="json"), BEACON_TYP)


def changes(
    cursor: int, sequence: int, versions: dict[str, int], *given: SignedSnapshot, more: bool = False
) -> Changes:
    return Changes(cursor=cursor, beacon=beacon(sequence, versions), snapshots=given, more=more)


class Kept:
    """A keeper in memory."""

    def __init__(self) -> None:
        self.stored: dict[str, SignedSnapshot] = {}
        self.beacons: list[int] = []
        self.failing = False

    async def snapshots(self) -> list[SignedSnapshot]:
        return list(self.stored.values())

    async def keep_snapshots(self, snapshots: list[SignedSnapshot]) -> None:
        if self.failing:
            raise DependencyUnavailable("Postgres is away.")
        self.stored |= {s.org_id: s for s in snapshots}

    async def keep_beacon(self, kept: KeptBeacon, sequence: int) -> None:
        self.beacons.append(sequence)


@dataclass
class Script:
    """Answers one after the other; after the last it says so and never answers again."""

    answers: list[Changes | Exception | Callable[[], Changes]]
    events: list[StreamEvent] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def changes(self, after: int, replica: str) -> Changes:
        self.asked.append(after)
        if not self.answers:
            self.over.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Changes) else answer()

    async def stream(self) -> AsyncGenerator[StreamEvent, None]:
        for event in self.events:
            yield event
        await asyncio.Event().wait()


@dataclass
class Plane:
    entitlements: Entitlements
    kept: Kept
    sync: Sync

    async def follow(self, script: Script) -> None:
        """Until the script is over; a follower that crashes fails the test."""
        following = asyncio.create_task(self.sync.follow(script))
        over = asyncio.create_task(script.over.wait())
        done, _ = await asyncio.wait(
            {following, over}, timeout=10, return_when=asyncio.FIRST_COMPLETED
        )
        assert over in done, following
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
def plane() -> Plane:
    entitlements = Entitlements(lambda: NOW)
    kept = Kept()
    keys = TrustedKeys(cool_down_seconds=60)
    keys.replace(KEY.key_set().to_jwks())
    # Whatever the answers do not cause at once comes after 20 ms.
    settings = PeeringSettings(poll_seconds=0.02, longest_pause_seconds=0.02)
    sync = Sync("p1", "r1", settings, kept, entitlements, keys, lambda: NOW)
    return Plane(entitlements, kept, sync)


async def test_what_is_applied_is_kept_and_then_acknowledged(plane: Plane) -> None:
    script = Script([changes(7, 1, {"acme": 3}, signed(snapshot("acme", 3)))])
    await plane.follow(script)
    assert plane.entitlements.versions() == {"acme": 3}
    assert plane.kept.stored["acme"].version == 3
    assert script.asked == [0, 7]


async def test_nothing_is_acknowledged_or_in_force_that_could_not_be_kept(plane: Plane) -> None:
    plane.kept.failing = True

    def heal() -> Changes:
        plane.kept.failing = False
        return changes(7, 2, {"acme": 3}, signed(snapshot("acme", 3)))

    script = Script([changes(7, 1, {"acme": 3}, signed(snapshot("acme", 3))), heal])
    await plane.follow(script)
    assert script.asked == [0, 0, 7]
    assert plane.kept.stored["acme"].version == 3


async def test_an_older_or_equal_version_changes_nothing(plane: Plane) -> None:
    old = signed(snapshot("acme", 2, plan="old"))
    script = Script(
        [
            changes(7, 1, {"acme": 3}, signed(snapshot("acme", 3))),
            changes(9, 2, {"acme": 3}, old),
            changes(9, 3, {"acme": 3}, signed(snapshot("acme", 3, plan="other"))),
        ]
    )
    await plane.follow(script)
    assert plane.entitlements.current("acme").plan == "starter"
    assert plane.kept.stored["acme"].version == 3


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(signed(snapshot("acme", 4), STRANGER), id="another signer"),
        pytest.param(signed(snapshot("acme", 4, plane="p2")), id="another plane's"),
        pytest.param(signed(snapshot("acme", 4), version=5), id="cover says another version"),
        pytest.param(signed(snapshot("other", 4), org_id="acme"), id="cover says another org"),
        pytest.param(signed(snapshot("acme", 4, levels=())), id="without its own limits"),
        pytest.param(SignedSnapshot(org_id="acme", version=4, jws="e30.e30.x"), id="garbage"),
        pytest.param(
            SignedSnapshot(org_id="acme", version=4, jws=beacon(9, {})), id="another document"
        ),
    ],
)
async def test_a_bad_snapshot_is_not_taken_nor_acknowledged(
    plane: Plane, bad: SignedSnapshot
) -> None:
    script = Script(
        [
            changes(7, 1, {"acme": 3}, signed(snapshot("acme", 3))),
            changes(9, 2, {"acme": 4}, bad, signed(snapshot("good", 1))),
        ]
    )
    await plane.follow(script)
    assert plane.entitlements.versions() == {"acme": 3, "good": 1}
    assert script.asked == [0, 7, 7]


async def test_pages_are_followed_to_the_last(plane: Plane) -> None:
    both = {"a": 1, "b": 1}
    script = Script(
        [
            changes(5, 1, both, signed(snapshot("a", 1)), more=True),
            changes(8, 2, both, signed(snapshot("b", 1))),
        ]
    )
    await plane.follow(script)
    assert script.asked == [0, 5, 8]
    assert not plane.sync.diverged


async def test_versions_unlike_the_beacons_are_resynchronised_from_the_start(plane: Plane) -> None:
    one, two = signed(snapshot("a", 1)), signed(snapshot("b", 1))
    script = Script(
        [
            changes(5, 1, {"a": 1}, one),
            changes(6, 2, {"a": 1, "b": 1}),  # b was lost on the way
            changes(6, 3, {"a": 1, "b": 1}, one, two),
        ]
    )
    await plane.follow(script)
    assert script.asked == [0, 5, 0, 6]
    assert plane.entitlements.versions() == {"a": 1, "b": 1}
    assert not plane.sync.diverged


async def test_a_resync_that_does_not_help_is_said(plane: Plane) -> None:
    script = Script([changes(5, 1, {"a": 9}, signed(snapshot("a", 1)))])
    await plane.follow(script)
    assert plane.sync.diverged


async def test_trouble_and_garbage_end_nothing(plane: Plane) -> None:
    script = Script(
        [
            DependencyUnavailable("away"),
            Changes(cursor=3, beacon="garbage", snapshots=()),
            changes(5, 1, {"a": 1}, signed(snapshot("a", 1))),
        ],
        events=[StreamEvent("beacon", "garbage"), StreamEvent("unheard of", "")],
    )
    await plane.follow(script)
    assert plane.entitlements.versions() == {"a": 1}


async def test_beacons_only_rise_and_must_be_this_planes(plane: Plane) -> None:
    events = [
        StreamEvent("beacon", beacon(4, {})),
        StreamEvent("beacon", beacon(3, {})),
        StreamEvent("beacon", beacon(9, {}, plane="p2")),
        StreamEvent("changed", ""),
    ]
    await plane.follow(Script([changes(1, 1, {}), changes(1, 5, {})], events))
    assert plane.kept.beacons in ([1, 4, 5], [4, 5])


async def test_restore_puts_in_force_what_was_kept_and_nothing_forged(plane: Plane) -> None:
    plane.kept.stored = {
        "acme": signed(snapshot("acme", 3)),
        "evil": signed(snapshot("evil", 3), STRANGER),
    }
    enrolled = Enrolled(
        plane="p1", region="local", issuer="https://cp.example", jwks=KEY.key_set().to_jwks()
    )
    state = PlaneState("p1", b"", enrolled, KeptBeacon(beacon(8, {"acme": 3}), NOW))
    await plane.sync.restore(state)
    assert plane.entitlements.versions() == {"acme": 3}
    assert plane.entitlements.beacon_age_seconds() == 0


async def turns() -> None:
    """Lets all that can go on without a timer go on: in memory, a few turns are enough."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_a_version_that_was_heard_of_is_asked_for_at_once_and_not_by_every_caller() -> None:
    clock = [NOW]
    keys = TrustedKeys(cool_down_seconds=60)
    keys.replace(KEY.key_set().to_jwks())
    settings = PeeringSettings(poll_seconds=60, longest_pause_seconds=60)
    sync = Sync("p1", "r1", settings, Kept(), Entitlements(lambda: NOW), keys, lambda: clock[0])
    script = Script([changes(1, sequence, {}) for sequence in range(1, 9)])
    following = asyncio.create_task(sync.follow(script))
    try:
        await turns()
        assert script.asked == [0]  # the next poll is a minute away
        sync.a_newer_version_is_known()
        await turns()
        assert script.asked == [0, 1]
        # A control plane that does not have it yet is not asked as often as clients call.
        for _ in range(50):
            sync.a_newer_version_is_known()
            await turns()
        assert script.asked == [0, 1]
        clock[0] += timedelta(seconds=1)
        sync.a_newer_version_is_known()
        await turns()
        assert script.asked == [0, 1, 1]
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
