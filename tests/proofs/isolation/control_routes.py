"""What each route of the control plane gives to a tenant that reaches for another: a new route has
its case here, or CI fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from tenantplane.core.ids import new_api_key, new_id
from tenantplane.core.keys.signing import SigningKey
from tests.fixtures.controlplane import PLAN, unique, usage_event
from tests.fixtures.isolation import Tenant
from tests.proofs.isolation.routes import Attack, Route, told

WHERE: Final = "CONTROL_ROUTES of tests/proofs/isolation/control_routes.py"

# Takes the route, attacks it, and answers how many cases that was.
Case = Callable[[Route, Attack], Awaitable[int]]

_WRITER: Final = {"tenantplane-writer": "cli"}


def platform_only(body: Callable[[Tenant], Any] | None = None) -> Case:
    """Neither a tenant's credentials nor a plane's token get in; what they name makes no
    difference. Only then is a body read, but it is a good one all the same."""

    async def case(route: Route, attack: Attack) -> int:
        method, path = route
        bearers = (
            None,
            attack.intruder.api_key,
            attack.access_token,
            attack.plane_token,
            new_api_key(),
            "garbage",
        )
        for bearer in bearers:
            answers = []
            for aim in attack.aims:
                request: dict[str, Any] = {"headers": _WRITER}
                if body is not None:
                    request["json"] = body(aim)
                answer = await attack.ask_control(method, _filled(path, aim), bearer, **request)
                answers.append(told(answer, _filled_in(aim)))
            assert answers[0].status in (401, 403), answers[0]
            assert answers[0] == answers[1]
            attack.require_silence(answers[0])
        return 2 * len(bearers)

    return case


def planes_only(of_a_foreign_plane: Case) -> Case:
    """No tenant's credential and no platform key get in; another plane's token sees its own."""

    async def case(route: Route, attack: Attack) -> int:
        method, path = route
        bearers = (
            None,
            attack.intruder.api_key,
            attack.access_token,
            attack.tenants.peers.control.platform_key,
            "garbage",
        )
        for bearer in bearers:
            answer = told(
                await attack.ask_control(
                    method,
                    path.format(replica="r1", org_id=attack.victim.org_id),
                    bearer,
                    params={"replica": "r1"},
                    json={},
                ),
                [attack.victim.org_id],
            )
            assert answer.status == 401, answer
            attack.require_silence(answer)
        return len(bearers) + await of_a_foreign_plane(route, attack)

    return case


async def public(route: Route, attack: Attack) -> int:
    """The same for everybody, and about nobody."""
    bearers = (None, attack.intruder.api_key, attack.access_token, attack.plane_token, "garbage")
    answers = [told(await attack.ask_control(*route, bearer)) for bearer in bearers]
    assert answers[0].status == 200, answers[0]
    assert all(answer == answers[0] for answer in answers)
    attack.require_silence(answers[0])
    return len(bearers)


def _filled(path: str, aim: Tenant) -> str:
    # Plans and planes are the platform's; the aim's plan is the name that would matter.
    return path.format(
        org_id=aim.org_id,
        key_id=aim.key_id,
        name=aim.plan,
        raise_id=aim.raise_id,
        kind="prompt",
    )


def _filled_in(aim: Tenant) -> tuple[str, ...]:
    return aim.org_id, aim.key_id, aim.plan, aim.raise_id


async def _exchange_for_another_org(route: Route, attack: Attack) -> int:
    """A good token of the intruder's issuer that asks to be the victim."""
    answers = []
    for aim in attack.aims:
        answer = await attack.tenants.exchange(attack.intruder, org=aim.org_id)
        assert (answer.status_code, answer.json()["code"]) == (401, "unknown_issuer")
        answers.append(told(answer, [aim.org_id]))
    assert answers[0] == answers[1]
    attack.require_silence(answers[0])
    # And one that asserts it: the issuer belongs to the intruder, whatever it says.
    tenants = attack.tenants
    for claim in ("org_id", "plan"):
        value = {"org_id": attack.victim.org_id, "plan": attack.victim.plan}[claim]
        token = tenants.issuer.mint({"aud": attack.intruder.audience, claim: value})
        refused = await tenants.exchange(attack.intruder, subject_token=token)
        assert refused.status_code in (401, 403), refused.text
        assert "access_token" not in refused.json()
    granted = await tenants.exchange(attack.intruder, org=attack.intruder.org_id)
    assert granted.status_code == 200, granted.text
    return 5


async def _enrol_with_a_foreign_token(route: Route, attack: Attack) -> int:
    """A token of another plane, or none that there is, does not make one the victim's plane."""
    control = attack.tenants.peers.control
    token = await control.enrolment_token(unique("plane"), "elsewhere")
    answers = []
    for given in (token, token[:-4] + "0000"):
        for name in (attack.tenants.peers.data.plane, unique("plane")):
            body = {
                "enrolment_token": given,
                "public_jwk": SigningKey.generate().public_jwk(),
            }
            answer = await attack.ask_control("POST", route[1].format(name=name), None, json=body)
            answers.append(told(answer, [name]))
    assert {answer.status for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    return len(answers)


async def _foreign_changes(route: Route, attack: Attack) -> int:
    snapshots = await attack.tenants.foreign.changes(after=0, replica="proof")
    assert {signed.org_id for signed in snapshots.snapshots} == {attack.tenants.foreign_org}
    return 1


async def _foreign_stream(route: Route, attack: Attack) -> int:
    """A change on the victim's plane is no event on the stream of another; a change of its own is."""
    tenants, control = attack.tenants, attack.tenants.peers.control
    async with tenants.foreign.events() as events:
        await _next_event(events)  # it is open
        await control.tenant(attack.intruder.plan, region=tenants.peers.region)
        for _ in range(2):  # one may have been on its way before the change
            name, data = await _next_event(events)
            assert name == "beacon"
            assert tenants.foreign.read_beacon(data).orgs == 1
        await control.api_key(tenants.foreign_org)
        async with asyncio.timeout(10):
            while name != "changed":
                name, _ = await _next_event(events)
    return 1


async def _next_event(events: AsyncGenerator[tuple[str, str], None]) -> tuple[str, str]:
    """Comments are passed over."""
    name, data = await anext(events)
    while not name:
        name, data = await anext(events)
    return name, data


async def _foreign_dismissal(route: Route, attack: Attack) -> int:
    """A plane dismisses replicas of its own alone, also where the name is that of another plane's."""
    tenants = attack.tenants
    before = await _replicas(attack)
    assert before, "the victim's plane has no replica: nothing is proved"
    async with tenants.foreign.speaking(attack.plane_token) as http:
        for replica in before:
            answer = await http.delete(route[1].format(replica=replica))
            assert answer.status_code in (200, 204, 404), answer.text
    assert await _replicas(attack) == before
    return len(before)


async def _replicas(attack: Attack) -> list[str]:
    """Names of the replicas of the victim's plane, which no route tells: read as the owner."""
    peers = attack.tenants.peers
    async with await psycopg.AsyncConnection.connect(
        peers.control.provisioned.owner_dsn
    ) as connection:
        cursor = await connection.execute(
            "SELECT replica FROM controlplane.plane_replica WHERE plane = %s ORDER BY replica",
            (peers.data.plane,),
        )
        return [replica for (replica,) in await cursor.fetchall()]


async def _foreign_isolation(route: Route, attack: Attack) -> int:
    """A plane speaks of its own database alone: what it reports changes nothing for another's
    tenants."""
    control, peers = attack.tenants.peers.control, attack.tenants.peers
    before = (await control.view(attack.victim.org_id)).isolation
    finding = {"severity": "refuse", "subject": "server", "message": "is a lie"}
    report = {"interval_seconds": 60, "refusals": 1, "warnings": 0, "findings": [finding]}
    async with attack.tenants.foreign.speaking(attack.plane_token) as http:
        for extra in ({}, {"plane": peers.data.plane}, {"org_id": attack.victim.org_id}):
            answer = await http.put(route[1], json=report | extra)
            assert answer.status_code == 204, answer.text
    after = (await control.view(attack.victim.org_id)).isolation
    refusals = [view.refusals for view in (before, after) if view is not None]
    assert not any(refusals)
    own = (await control.view(attack.tenants.foreign_org)).isolation
    assert own is not None
    assert own.refusals == 1
    return 3


def _reported(field: str, row: Callable[[str], dict[str, Any]]) -> Case:
    """Rows of an org that is on another plane are refused as those of nobody, whole batches."""

    async def case(route: Route, attack: Attack) -> int:
        answers = []
        for aim in attack.aims:
            rows = [row(attack.tenants.foreign_org), row(aim.org_id)]
            async with attack.tenants.foreign.speaking(attack.plane_token) as http:
                answer = await http.post(route[1], json={field: rows})
            answers.append(told(answer, [aim.org_id]))
        assert (answers[0].status, answers[0].body["code"]) == (403, "org_not_on_plane")
        assert answers[0] == answers[1]
        return 2

    return case


async def _foreign_totals(route: Route, attack: Attack) -> int:
    """What a plane has reported, and nobody else: it served none of the victim's calls."""
    tenants = attack.tenants
    async with tenants.foreign.speaking(attack.plane_token) as http:
        answer = await http.get(route[1])
    assert answer.status_code == 200, answer.text
    assert {org["org_id"] for org in answer.json()["orgs"]} <= {tenants.foreign_org}
    return 1


async def _foreign_events(route: Route, attack: Attack) -> int:
    """The events of the victim that its own plane reported are none of another's."""
    async with attack.tenants.foreign.speaking(attack.plane_token) as http:
        for aim in attack.aims:
            answer = await http.get(route[1].format(org_id=aim.org_id))
            assert (answer.status_code, answer.json()) == (200, {"events": []})
    return len(attack.aims)


def _commitment(org_id: str) -> dict[str, Any]:
    return {
        "record_id": str(new_id()),
        "org_id": org_id,
        "run_id": str(new_id()),
        "entry_hex": "ab" * 32,
        "occurred_at": datetime.now(UTC).isoformat(),
    }


CONTROL_ROUTES: Final[dict[Route, Case]] = {
    ("GET", "/healthz"): public,
    ("GET", "/readyz"): public,
    ("GET", "/openapi.json"): public,
    ("GET", "/.well-known/jwks.json"): public,
    ("GET", "/.well-known/openid-configuration"): public,
    ("GET", "/.well-known/oauth-authorization-server"): public,
    ("POST", "/oauth/token"): _exchange_for_another_org,
    ("GET", "/v1/plans"): platform_only(),
    ("GET", "/v1/plans/{name}"): platform_only(),
    ("PUT", "/v1/plans/{name}"): platform_only(lambda aim: PLAN),
    ("DELETE", "/v1/plans/{name}"): platform_only(),
    ("GET", "/v1/tenants"): platform_only(),
    ("GET", "/v1/tenants/{org_id}"): platform_only(),
    ("PUT", "/v1/tenants/{org_id}"): platform_only(
        lambda aim: {"plan": aim.plan, "suspended": True}
    ),
    ("DELETE", "/v1/tenants/{org_id}"): platform_only(),
    ("GET", "/v1/tenants/{org_id}/usage"): platform_only(),
    ("GET", "/v1/tenants/{org_id}/alerts"): platform_only(),
    ("GET", "/v1/tenants/{org_id}/keys"): platform_only(),
    ("POST", "/v1/tenants/{org_id}/keys"): platform_only(
        lambda aim: {"name": "stolen", "userId": "intruder"}
    ),
    ("DELETE", "/v1/tenants/{org_id}/keys/{key_id}"): platform_only(),
    ("GET", "/v1/tenants/{org_id}/entitlements"): platform_only(),
    ("GET", "/v1/tenants/{org_id}/entitlements/explain"): platform_only(),
    ("GET", "/v1/tenants/{org_id}/raises"): platform_only(),
    ("POST", "/v1/tenants/{org_id}/raises"): platform_only(lambda aim: {"extraUSD": "1000"}),
    ("DELETE", "/v1/tenants/{org_id}/raises/{raise_id}"): platform_only(),
    ("POST", "/v1/tenants/{org_id}/excess/acknowledge"): platform_only(),
    ("GET", "/v1/catalogue"): platform_only(),
    ("GET", "/v1/catalogue/{kind}/{name}"): platform_only(),
    ("PUT", "/v1/catalogue/{kind}/{name}"): platform_only(lambda aim: {"text": "Obey me."}),
    ("DELETE", "/v1/catalogue/{kind}/{name}"): platform_only(),
    ("GET", "/v1/planes"): platform_only(),
    ("PUT", "/v1/planes/{name}"): platform_only(
        lambda aim: {"region": "local", "endpoint": "http://127.0.0.1:1"}
    ),
    ("POST", "/v1/planes/{name}/enroll"): _enrol_with_a_foreign_token,
    ("GET", "/v1/planes/self/changes"): planes_only(_foreign_changes),
    ("GET", "/v1/planes/self/stream"): planes_only(_foreign_stream),
    ("DELETE", "/v1/planes/self/replicas/{replica}"): planes_only(_foreign_dismissal),
    ("PUT", "/v1/planes/self/isolation"): planes_only(_foreign_isolation),
    ("POST", "/v1/planes/self/usage"): planes_only(_reported("events", usage_event)),
    ("GET", "/v1/planes/self/usage"): planes_only(_foreign_totals),
    ("GET", "/v1/planes/self/usage/{org_id}"): planes_only(_foreign_events),
    ("POST", "/v1/planes/self/audit"): planes_only(_reported("commitments", _commitment)),
}
