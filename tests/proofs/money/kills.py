"""Makes the kills of a schedule, each when a call stands in its gap, and repairs what they broke."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from tests.fixtures.faults_network import Link, Way
from tests.proofs.money.deployment import Deployment, Replica
from tests.proofs.money.schedules import Kill

# Under load a call comes to each gap many times a second; whoever waits longer has found a fault.
REACH_SECONDS: Final = 20.0
_WAYS: Final = {"cut": Way.CUT, "stalled": Way.STALLED, "unheard": Way.UNHEARD}


async def run_kills(deployment: Deployment, kills: Sequence[Kill]) -> None:
    """All of them, made and repaired. Fails where no call came to a gap."""
    repairing: list[asyncio.Task[None]] = []
    for kill in kills:
        replica = deployment.replicas[kill.replica]
        await asyncio.wait_for(replica.ready.wait(), REACH_SECONDS)
        await _reach(replica, kill)
        await _break(deployment, replica, kill)
        if not kill.waits:
            replica.tell({"go_on": True})
        repair = asyncio.create_task(_repair(deployment, replica, kill))
        repairing.append(repair)
        if not kill.overlaps:
            await repair
    await asyncio.gather(*repairing)


async def _reach(replica: Replica, kill: Kill) -> None:
    replica.reached.clear()
    replica.tell({"gap": kill.gap, "passes": kill.passes, "dies": kill.kind == "plane"})
    try:
        await asyncio.wait_for(replica.reached.wait(), REACH_SECONDS)
    except TimeoutError:
        raise AssertionError(f"no call came to the gap: {kill}") from None


async def _break(deployment: Deployment, replica: Replica, kill: Kill) -> None:
    match kill.kind:
        case "plane":
            await asyncio.wait_for(replica.gone.wait(), REACH_SECONDS)
        case "valkey" | "valkey_emptied":
            await deployment.kill_valkey()
        case "postgres":
            await deployment.kill_postgres()
        case _:
            link, way = _way(replica, kill)
            link.set(way)


async def _repair(deployment: Deployment, replica: Replica, kill: Kill) -> None:
    await asyncio.sleep(kill.lasts_seconds)
    match kill.kind:
        case "plane":
            await deployment.start(replica)
        case "valkey" | "valkey_emptied":
            await deployment.start_valkey(emptied=kill.kind == "valkey_emptied")
        case "postgres":
            await deployment.start_postgres()
        case _:
            _way(replica, kill)[0].set(Way.OPEN)
    replica.tell({"go_on": True})


def _way(replica: Replica, kill: Kill) -> tuple[Link, Way]:
    server, _, how = kill.kind.partition("_")
    link = replica.to_valkey if server == "valkey" else replica.to_postgres
    return link, _WAYS[how]
