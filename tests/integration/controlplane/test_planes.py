"""Planes: enrolment, tokens by private_key_jwt, changes without loss, the stream."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

from tenantplane.core.apis.snapshot import versions_digest
from tenantplane.core.keys.signing import SigningKey, sign_client_assertion
from tests.fixtures.controlplane import (
    ControlPlaneProcess,
    PlaneClient,
    StartControlPlane,
    unique,
)


@pytest.mark.fault("F62")
async def test_an_enrolment_token_is_for_one_key(control_plane: ControlPlaneProcess) -> None:
    plane = PlaneClient(unique("plane"), "eu", control_plane.url, SigningKey.generate())
    token = await control_plane.enrolment_token(plane.name, "eu")
    first = await plane.enrol(token)
    assert first.json()["plane"] == plane.name
    assert first.json()["issuer"] == control_plane.url
    # The answer may have been lost: the same key may ask again, another one may not.
    assert (await plane.enrol(token)).status_code == 200
    replayed = await plane.enrol(token, key=SigningKey.generate())
    assert (replayed.status_code, replayed.json()["code"]) == (401, "enrolment_token_used")
    assert "enrolment_token_replayed" in control_plane.log.read_text()
    assert token not in control_plane.log.read_text()
    assert (await plane.ask_token()).status_code == 200


async def test_enrolment_refusals(control_plane: ControlPlaneProcess) -> None:
    plane = PlaneClient(unique("plane"), "eu", control_plane.url, SigningKey.generate())
    token = await control_plane.enrolment_token(plane.name, "eu")
    other = PlaneClient(unique("plane"), "eu", control_plane.url, SigningKey.generate())
    await control_plane.enrolment_token(other.name, "eu")
    for client, attempt in ((plane, "no-such-token"), (other, token)):
        refused = await client.enrol(attempt)
        assert refused.status_code == 401
        assert refused.json()["code"] == "enrolment_token_unknown"
    newer = await control_plane.enrolment_token(plane.name, "eu")
    assert (await plane.enrol(token)).json()["code"] == "enrolment_token_unknown"
    jwk = plane.key.public_jwk()
    for bad in (jwk | {"d": "AAAA"}, jwk | {"crv": "P-384"}, jwk | {"x": "AAAA"}, {}):
        response = await control_plane.http.post(
            f"/v1/planes/{plane.name}/enroll", json={"enrolment_token": newer, "public_jwk": bad}
        )
        assert response.status_code == 422
    assert (await plane.enrol(newer)).status_code == 200  # a refusal burns nothing


async def test_a_plane_that_lost_its_key_enrols_anew_and_the_old_key_dies(
    control_plane: ControlPlaneProcess,
) -> None:
    plane = await control_plane.plane("eu")
    stolen, old_token = plane.key, await plane.token()
    await control_plane.next_second()  # a token's time is in whole seconds
    token = await control_plane.enrolment_token(plane.name, "eu")
    plane.key = SigningKey.generate()
    assert (await plane.enrol(token)).status_code == 200
    assertion = sign_client_assertion(stolen, plane.client_id, control_plane.url)
    assert (await plane.ask_token(assertion)).status_code == 401
    async with plane.speaking(old_token) as http:
        assert (await http.get("/v1/planes/self/changes?replica=r")).status_code == 401
    assert (await plane.changes()).snapshots == ()


async def test_planes_are_listed_and_keep_their_region(control_plane: ControlPlaneProcess) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    await control_plane.tenant(await control_plane.plan(), region=region)
    await plane.changes()
    listed = (await control_plane.http.get("/v1/planes")).json()["items"]
    (view,) = [p for p in listed if p["name"] == plane.name]
    assert (view["enrolled"], view["replicas"], view["orgs"]) == (True, 1, 1)
    moved = await control_plane.http.put(
        f"/v1/planes/{plane.name}", json={"region": "other", "endpoint": "http://x"}
    )
    assert (moved.status_code, moved.json()["code"]) == (422, "immutable_field")


async def test_client_assertions(control_plane: ControlPlaneProcess) -> None:
    plane = await control_plane.plane("eu")
    assertion = sign_client_assertion(plane.key, plane.client_id, control_plane.url)
    answer = await plane.ask_token(assertion)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["expires_in"] == 900
    replayed = await plane.ask_token(assertion)
    assert (replayed.status_code, replayed.json()["error"]) == (401, "invalid_client")
    assert "client_assertion_replayed" in control_plane.log.read_text()
    for bad in (
        sign_client_assertion(SigningKey.generate(), plane.client_id, control_plane.url),
        sign_client_assertion(plane.key, plane.client_id, "http://elsewhere"),
        sign_client_assertion(plane.key, "plane:other", control_plane.url),
        sign_client_assertion(plane.key, plane.client_id, control_plane.url, now=time.time() - 120),
        "a.b.c",
    ):
        assert (await plane.ask_token(bad)).status_code == 401
    stranger = PlaneClient(unique("plane"), "eu", control_plane.url, SigningKey.generate())
    assert (await stranger.ask_token()).json()["error"] == "invalid_client"


async def test_applied_is_what_every_live_replica_has_acknowledged(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(await control_plane.plan(), region=region)
    assert not (await control_plane.view(org_id)).applied  # no replica is there
    await plane.catch_up("r1")
    assert (await control_plane.view(org_id)).applied
    await plane.changes(after=0, replica="r2")
    assert not (await control_plane.view(org_id)).applied
    await plane.catch_up("r2")
    assert (await control_plane.view(org_id)).applied


async def test_a_replica_that_is_gone_holds_nothing_up(
    start_control_plane: StartControlPlane,
) -> None:
    control = await start_control_plane(TENANTPLANE_REPLICA_LIVE_SECONDS="1")
    plane = await control.plane("local")
    org_id = await control.tenant(await control.plan())
    await plane.changes(after=0, replica="gone")
    deadline = time.monotonic() + 10
    while not (await control.view(org_id)).applied:
        await plane.catch_up("here")
        assert time.monotonic() < deadline


async def test_pages_lose_nothing_and_end(control_plane: ControlPlaneProcess) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    plan = await control_plane.plan()
    made = {await control_plane.tenant(plan, region=region) for _ in range(7)}
    seen: set[str] = set()
    cursor, pages = 0, 0
    while True:
        answer = await plane.changes(after=cursor, limit=3)
        seen |= {s.org_id for s in answer.snapshots}
        pages += 1
        assert answer.cursor > cursor
        cursor = answer.cursor
        if not answer.more:
            break
    assert seen == made
    assert pages >= 2


async def test_the_beacon_says_which_versions_are_in_force(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(await control_plane.plan(), region=region)
    first = plane.read_beacon((await plane.changes()).beacon)
    await control_plane.api_key(org_id)
    second = plane.read_beacon((await plane.changes()).beacon)
    assert (first.plane, first.orgs) == (plane.name, 1)
    assert first.versions_sha256 == versions_digest({org_id: 1})
    assert second.versions_sha256 == versions_digest({org_id: 2})
    assert second.sequence > first.sequence
    assert second.issued_at > first.issued_at


async def test_a_cursor_from_before_a_restore_starts_anew(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(await control_plane.plan(), region=region)
    answer = await plane.changes(after=2**60)
    assert [s.org_id for s in answer.snapshots] == [org_id]
    assert not (await control_plane.view(org_id)).applied  # nothing of the sort is believed


async def test_the_cursor_loses_nothing_to_a_transaction_that_is_still_open(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    plan = await control_plane.plan()
    slow = await control_plane.tenant(plan, region=region)
    await plane.catch_up()
    dsn = control_plane.provisioned.settings.system_dsn.get_secret_value()
    async with await psycopg.AsyncConnection.connect(dsn) as open_transaction:
        # It has its number before the other change, and commits after it.
        await open_transaction.execute(
            "UPDATE controlplane.snapshot SET version = version + 1,"
            " changed_xid = pg_current_xact_id() WHERE org_id = %s",
            (slow,),
        )
        quick = await control_plane.tenant(plan, region=region)
        answer = await plane.changes()
        assert [s.org_id for s in answer.snapshots] == [quick]
        plane.cursor = answer.cursor
        await plane.changes()
        assert not (await control_plane.view(quick)).applied
        await open_transaction.commit()
    answer = await plane.changes()
    assert {s.org_id for s in answer.snapshots} == {slow, quick}


@pytest.mark.req("R16")
async def test_a_suspension_is_announced_within_a_second(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane, other = await control_plane.plane(region), await control_plane.plane(unique("region"))
    plan = await control_plane.plan()
    org_id = await control_plane.tenant(plan, region=region)
    async with plane.events() as events, other.events() as quiet:
        name, data = await anext(events)
        assert name == "beacon"
        assert plane.read_beacon(data).plane == plane.name
        assert (await anext(quiet))[0] == "beacon"
        asked = time.monotonic()
        await control_plane.put_tenant(org_id, {"plan": plan, "region": region, "suspended": True})
        async with asyncio.timeout(5):
            while (await anext(events))[0] != "changed":
                pass
        assert time.monotonic() - asked < 1.0
        async with asyncio.timeout(5):
            # The other plane goes on hearing beacons, and nothing of this.
            heard = [(await anext(quiet))[0] for _ in range(2)]
        assert "changed" not in heard
    assert (await plane.snapshot(org_id)).status == "suspended"


async def test_a_stream_ends_with_its_token(start_control_plane: StartControlPlane) -> None:
    control = await start_control_plane(TENANTPLANE_ACCESS_TOKEN_SECONDS="3")
    plane = await control.plane("local")
    token = await plane.token()
    started = time.monotonic()
    async with (
        plane.speaking(token) as http,
        http.stream("GET", "/v1/planes/self/stream") as response,
    ):
        async for _ in response.aiter_lines():
            assert time.monotonic() - started < 10
    assert time.monotonic() - started > 1
    async with plane.speaking(token) as http:
        assert (await http.get("/v1/planes/self/changes?replica=r")).status_code == 401


async def test_planes_of_the_settings_are_there_at_start(
    start_control_plane: StartControlPlane,
) -> None:
    token = "tpe-settings-0123456789abcdef-0123456789"
    settings = (
        '[{"name": "shared-1", "region": "local", "endpoint": "http://127.0.0.1:2",'
        f' "enrolment_token": "{token}"}}]'
    )
    control = await start_control_plane(TENANTPLANE_BOOTSTRAP_PLANES=settings)
    plane = PlaneClient("shared-1", "local", control.url, SigningKey.generate())
    assert (await plane.enrol(token)).status_code == 200
    await control.stop()
    await control.start()
    replayed = await plane.enrol(token, key=SigningKey.generate())
    assert replayed.json()["code"] == "enrolment_token_used"  # burnt stays burnt
    assert (await plane.changes()).snapshots == ()
