"""No call for one root touches a key of another: function by function, key pattern by key pattern."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tenantplane.core.valkey import encoding, keys, library
from tenantplane.core.valkey.answers import Admitted, Begun, Installed, Refused, Settled, Spend
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tenantplane.core.valkey.requests import (
    AdmitRequest,
    Installation,
    InstalledHold,
    Level,
    Period,
    SettledAmount,
    Slot,
    Stage,
)
from tests.fixtures.isolation import TwoTenants
from tests.fixtures.proofs import ProofCases
from tests.proofs.isolation import catalogue

pytestmark = pytest.mark.proof

EPOCH: Final = 5
VICTIM: Final = "root-of-victim"
INTRUDER: Final = "root-intruding"
START: Final = int(time.time()) - 43_200
END: Final = START + 86_400
MONTH: Final = Period("month", "now", START, END, None, 1000)

# Both roots use the very same names for everything below the root: only the root keeps them apart.
LEVEL: Final = Level("org", "acme", 5, 500, (MONTH,))
SLOT: Final = Slot("org", "acme", "month", "now", END)
OPEN: Final = "hold-open"
SETTLED: Final = "hold-settled"
INSTALLED: Final = "hold-installed"


@dataclass(frozen=True)
class Server:
    """A Valkey of this module's own, since the epoch is begun anew on it."""

    store: AdmissionStore
    redis: Redis

    async def dump(self, root: str | None = None) -> dict[str, tuple[bytes | None, int]]:
        """Every key of the root (or of all), with its value and the time when it expires."""
        names = [key async for key in self.redis.scan_iter(f"tp:{{{root or '*'}}}:*")]
        return {
            name.decode(): (await self.redis.dump(name), await self.redis.pexpiretime(name))
            for name in names
        }


def _admission(root: str, hold_id: str, **changed: Any) -> AdmitRequest:
    wanted = AdmitRequest(root, EPOCH, "acme", 3, hold_id, 100, 10, 60, (LEVEL,))
    return replace(wanted, **changed)


def _installation(root: str) -> Installation:
    hold = InstalledHold(INSTALLED, 50, END, (SLOT,))
    return Installation(root, EPOCH, (SettledAmount(SLOT, 70),), (hold,), {"acme": 3})


async def _live(store: AdmissionStore, root: str) -> None:
    """Leaves a root with keys of every pattern: installed, holds open and settled, windows."""
    assert await store.install(_installation(root)) == Installed()
    for hold_id in (OPEN, SETTLED):
        assert isinstance(await store.admit(_admission(root, hold_id)), Admitted)
    assert await store.settle(root, EPOCH, SETTLED, Stage.ACTUAL, 80, 9) == Settled(80)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(make_valkey: Callable[[], EmbeddedValkey]) -> AsyncIterator[Server]:
    valkey = make_valkey()
    store = AdmissionStore(valkey.settings)
    redis = Redis.from_url(valkey.settings.url.get_secret_value())
    try:
        await store.open()
        assert await store.begin_epoch(EPOCH) == Begun()
        await _live(store, VICTIM)
        await _live(store, INTRUDER)
        yield Server(store, redis)
    finally:
        await redis.aclose()
        await store.close()


# What the intruder does by each function: what works, what is refused, and what is malformed.
async def _begin(server: Server) -> int:
    # Server-wide on purpose: one epoch fences all roots. An old one changes nothing.
    await server.store.begin_epoch(EPOCH - 1)
    return 1


async def _install(server: Server) -> int:
    await server.store.install(_installation(INTRUDER))
    fresh = replace(_installation(INTRUDER), root_org_id="root-of-newcomer")
    assert await server.store.install(fresh) == Installed()
    return 2


async def _admit(server: Server) -> int:
    admit = server.store.admit
    assert isinstance(await admit(_admission(INTRUDER, OPEN, hold_nanousd=200)), Admitted)
    assert isinstance(await admit(_admission(INTRUDER, "hold-new")), Admitted)
    assert isinstance(await admit(_admission(INTRUDER, "hold-big", hold_nanousd=10_000)), Refused)
    suspended = (replace(LEVEL, suspended=True),)
    refused = await admit(_admission(INTRUDER, "hold-late", levels=suspended, snapshot_version=9))
    assert isinstance(refused, Refused)
    # From now on version 3 is stale: for this root alone.
    await admit(_admission(INTRUDER, "hold-stale"))
    return 5


async def _settle(server: Server) -> int:
    store = server.store
    assert await store.settle(INTRUDER, EPOCH, OPEN, Stage.ESTIMATED, 90) == Settled(90)
    assert await store.settle(INTRUDER, EPOCH, OPEN, Stage.ACTUAL, 5, 1) == Settled(-85)
    await store.release(INTRUDER, EPOCH, INSTALLED)
    await store.settle(INTRUDER, EPOCH, "hold-never", Stage.ACTUAL, 5)
    return 4


async def _spend(server: Server) -> int:
    assert isinstance(await server.store.spend(INTRUDER, EPOCH, (LEVEL,)), Spend)
    return 1


async def _expired(server: Server) -> int:
    assert await server.store.expired(INTRUDER, EPOCH) == ()
    return 1


async def _version(server: Server) -> int:
    found = await server.redis.fcall_ro("tp_version", 0)
    assert found == library.load().version.encode()
    return 1


WHERE: Final = "FUNCTIONS of tests/proofs/isolation/test_valkey.py"
FUNCTIONS: Final[dict[str, Callable[[Server], Awaitable[int]]]] = {
    "tp_admit": _admit,
    "tp_begin_epoch": _begin,
    "tp_expired": _expired,
    "tp_install": _install,
    "tp_settle": _settle,
    "tp_spend": _spend,
    "tp_version": _version,
}

_OF_ROOT: Final = [*keys.of_root(INTRUDER, EPOCH)]
_WITH_HOLD: Final = [*_OF_ROOT, keys.of_hold(INTRUDER, INSTALLED, EPOCH)]
# Good calls of the intruder's, key by key; functions without keys can name no root.
CALLS: Final[dict[str, tuple[list[str], list[str]]]] = {
    "tp_admit": (_WITH_HOLD, [encoding.admit_argument(_admission(INTRUDER, INSTALLED))]),
    "tp_expired": (_OF_ROOT, encoding.expired_arguments(INTRUDER, EPOCH, 10)),
    "tp_install": (_WITH_HOLD, encoding.install_arguments(_installation(INTRUDER))),
    "tp_settle": (
        _WITH_HOLD,
        [encoding.settle_argument(INTRUDER, EPOCH, INSTALLED, Stage.ACTUAL, 7, None, False)],
    ),
    "tp_spend": (_OF_ROOT, encoding.spend_arguments(INTRUDER, EPOCH, (LEVEL,), 60_000)),
}
WITHOUT_KEYS: Final = {"tp_begin_epoch", "tp_version"}


@pytest.mark.req("R6")
async def test_every_function_has_its_case(server: Server) -> None:
    listed = await server.redis.function_list(library="tenantplane")
    (found,) = listed
    loaded = dict(zip(found[::2], found[1::2], strict=True))[b"functions"]
    names = {dict(zip(f[::2], f[1::2], strict=True))[b"name"].decode() for f in loaded}
    catalogue.require_declared("A function of the Lua library", names, FUNCTIONS, WHERE)
    catalogue.require_declared(
        "A function of the Lua library",
        names - WITHOUT_KEYS,
        CALLS,
        "CALLS (or WITHOUT_KEYS) of tests/proofs/isolation/test_valkey.py",
    )


@pytest.mark.req("R6")
async def test_every_key_is_of_one_root_and_one_known_pattern(
    server: Server, two_tenants: TwoTenants, proof_cases: ProofCases
) -> None:
    """On this server, and on the one that the running data plane fills."""
    running = Redis.from_url(two_tenants.peers.data.valkey.settings.url.get_secret_value())
    try:
        of_plane = {key.decode() async for key in running.scan_iter()}
    finally:
        await running.aclose()
    of_here = {key.decode() async for key in server.redis.scan_iter()}
    matched = set()
    for key in sorted(of_plane | of_here):
        patterns = [name for name, pattern in keys.PATTERNS.items() if re.match(pattern, key)]
        assert len(patterns) == 1, f"{key} is of {patterns}: add its pattern to keys.PATTERNS"
        matched.add(patterns[0])
    assert matched == set(keys.PATTERNS), "a pattern without a key proves nothing"
    roots = {re.findall(r"\{(.*?)\}", key)[0] for key in of_plane}
    assert {two_tenants.victim.org_id, two_tenants.intruder.org_id} <= roots
    proof_cases.add(len(of_plane | of_here))


@pytest.mark.req("R6")
@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_call_for_one_root_leaves_all_keys_of_another(
    server: Server, function: str, proof_cases: ProofCases
) -> None:
    before = await server.dump(VICTIM)
    assert {re.split("[:}]+", key)[2] for key in before} == set(keys.PATTERNS)
    proof_cases.add(await FUNCTIONS[function](server))
    assert await server.dump(VICTIM) == before


@pytest.mark.req("R6")
@pytest.mark.parametrize("function", CALLS)
async def test_no_function_takes_keys_of_two_roots(
    server: Server, function: str, proof_cases: ProofCases
) -> None:
    """Each key of the intruder's call in turn, then all but one, are the victim's."""
    declared, arguments = CALLS[function]
    theirs = [key.replace(INTRUDER, VICTIM) for key in declared]
    mixed = []
    for at in range(len(declared)):
        mixed.append([*declared[:at], theirs[at], *declared[at + 1 :]])
        mixed.append([*theirs[:at], declared[at], *theirs[at + 1 :]])
    before = await server.dump()
    for names in mixed:
        with pytest.raises(ResponseError, match="BADARG keys"):
            await server.redis.fcall(function, len(names), *names, *arguments)
        assert await server.dump() == before
    # The same call with its own keys is taken: the mixture is what was refused.
    await server.redis.fcall(function, len(declared), *declared, *arguments)
    proof_cases.add(len(mixed))


@pytest.mark.req("R6")
@pytest.mark.parametrize(
    "root", ["a}:money:5", "{a}", "a:b", "A", "", "*", "a\n", "root-of-victim}"]
)
def test_no_name_makes_keys_of_another_root(root: str, proof_cases: ProofCases) -> None:
    with pytest.raises(ValueError, match="org id"):
        keys.of_root(root, EPOCH)
    with pytest.raises(ValueError, match="org id"):
        keys.of_hold(root, OPEN, EPOCH)
    with pytest.raises(ValueError, match="hold_id"):
        keys.of_hold(INTRUDER, f"x:{EPOCH}", EPOCH)
    proof_cases.add(3)


@pytest.mark.req("R6")
async def test_a_new_epoch_leaves_the_old_keys_as_they_are(server: Server) -> None:
    """The last of this module: from here on the old epoch is closed to both."""
    before = await server.dump()
    assert await server.store.begin_epoch(EPOCH + 1) == Begun()
    assert await server.dump() == before
