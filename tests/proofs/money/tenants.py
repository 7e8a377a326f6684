"""The orgs of one schedule: a tree under an umbrella with caps, one that is alone, one with room, and
one whose provider reports more than it was asked for."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tenantplane.core.apis.snapshot import Level, LevelLimits, Snapshot
from tenantplane.core.ids import new_api_key
from tests.fixtures.scripted_control_plane import api_key, tenant_fields
from tests.proofs.money.deployment import Deployment

USERS: Final = ("u1", "u2")
# About what a call of the load is held for and costs, in nano-dollars: the caps are multiples.
CALL_NANOUSD: Final = 30_000
ROOM: Final = 1_000_000_000_000
# The name of the org whose provider reports more than was asked for ends so.
EXCEEDED: Final = "-x"


@dataclass(frozen=True, slots=True)
class Caller:
    """A key of one user."""

    org_id: str
    user_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Account:
    """A level with a hard cap on its month."""

    kind: str
    id: str
    root_org_id: str
    hard_cap_nanousd: int


@dataclass(frozen=True, slots=True)
class Tenants:
    callers: tuple[Caller, ...]
    accounts: tuple[Account, ...]

    @property
    def orgs(self) -> list[str]:
        return sorted({caller.org_id for caller in self.callers})

    @property
    def roots(self) -> list[str]:
        return sorted({account.root_org_id for account in self.accounts})


@dataclass(frozen=True, slots=True)
class _Org:
    levels: Sequence[tuple[str, int]]  # root first, with their hard caps
    user_cap_nanousd: int | None = None
    requests_per_minute: int | None = None
    concurrent_calls: int | None = None
    on_provider_excess: Literal["halt", "continue"] = "halt"


async def make_tenants(deployment: Deployment, name: str) -> Tenants:
    """Fresh orgs that both replicas serve."""
    umbrella = (f"{name}-u", 60 * CALL_NANOUSD)
    orgs = (
        _Org((umbrella, (f"{name}-a", 40 * CALL_NANOUSD)), 25 * CALL_NANOUSD),
        _Org((umbrella, (f"{name}-b", 45 * CALL_NANOUSD)), concurrent_calls=3),
        _Org(((f"{name}-s", 15 * CALL_NANOUSD),), requests_per_minute=60),
        _Org(((f"{name}-r", ROOM),)),
        _Org(((f"{name}{EXCEEDED}", 40 * CALL_NANOUSD),), on_provider_excess="continue"),
    )
    callers: list[Caller] = []
    accounts: dict[tuple[str, str], Account] = {}
    for org in orgs:
        made, held = await _put(deployment, org)
        callers += made
        accounts |= {(account.kind, account.id): account for account in held}
    return Tenants(tuple(callers), tuple(accounts.values()))


async def make_tenant_of_one_call(deployment: Deployment) -> Tenants:
    """An org whose cap has room for one call of 100 tokens, and not for two."""
    name = f"one-{secrets.token_hex(3)}"
    callers, accounts = await _put(deployment, _Org(((name, 120_000),)))
    return Tenants(tuple(callers), tuple(accounts))


async def _put(deployment: Deployment, org: _Org) -> tuple[list[Caller], list[Account]]:
    root, own = org.levels[0][0], org.levels[-1][0]
    callers = [Caller(own, user, new_api_key()) for user in USERS]
    levels = tuple(
        Level(
            kind="org",
            id=name,
            hard_cap_nanousd=cap,
            requests_per_minute=org.requests_per_minute if name == own else None,
            concurrent_calls=org.concurrent_calls if name == own else None,
        )
        for name, cap in org.levels
    )
    accounts = [Account("org", name, root, cap) for name, cap in org.levels]
    per_user = None
    if org.user_cap_nanousd is not None:
        per_user = LevelLimits(hard_cap_nanousd=org.user_cap_nanousd)
        accounts += [Account("user", f"{own}/{user}", root, org.user_cap_nanousd) for user in USERS]
    keys = [api_key(caller.secret, user_id=caller.user_id) for caller in callers]
    fields = tenant_fields(deployment.plane.name, own, *keys)
    changed = {
        "root_org_id": root,
        "levels": levels,
        "per_user": per_user,
        "on_provider_excess": org.on_provider_excess,
    }
    await deployment.control.put(Snapshot.model_validate(fields | changed))
    return callers, accounts
