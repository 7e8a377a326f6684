"""What a plane believes of its control plane, and what it does without one: through the running
data plane, over real HTTP, Postgres and Valkey."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tenantplane.core.apis.planes import SignedSnapshot
from tenantplane.core.apis.snapshot import SNAPSHOT_TYP, Snapshot
from tenantplane.core.ids import new_api_key
from tenantplane.core.keys.signing import SigningKey
from tests.fixtures.dataplane import ScriptedPeers, StartDataPlane, until
from tests.fixtures.scripted_control_plane import ScriptedControlPlane, api_key, tenant_fields


async def _pair(
    start: StartDataPlane, control: ScriptedControlPlane, name: str, **environment: str
) -> ScriptedPeers:
    known = control.plane(name)
    data = await start(control.url, name, known.enrolment_token, environment=environment)
    return ScriptedPeers(control, known, data)


@pytest.mark.req("R86")
@pytest.mark.fault("F61")
async def test_keys_and_tokens_serve_without_the_control_plane_and_after_a_restart(
    start_data_plane: StartDataPlane, scripted_control_plane: ScriptedControlPlane
) -> None:
    peers = await _pair(start_data_plane, scripted_control_plane, "lonely")
    secret = await peers.tenant("islanders")
    token = peers.control.mint("islanders")
    await peers.known.leave()
    assert (await peers.data.get("/v1/models", secret)).status_code == 200
    await peers.data.restart(signal.SIGKILL)
    assert (await peers.data.get("/v1/models", secret)).status_code == 200
    assert (await peers.data.get("/v1/models", token)).status_code == 200
    assert (await peers.data.chat(secret, "hello")).status_code == 200
    assert not peers.known.usage
    peers.known.come_back()

    async def shipped() -> int:
        return len(peers.known.usage)

    assert await until(shipped, bool, 20) == 1  # nothing is lost
    await peers.control.change("islanders", api_keys=())
    await peers.data.answers(secret, 401)
    await peers.data.close()


@pytest.mark.fault("F61")
@pytest.mark.req("R16")
async def test_a_plane_that_was_cut_off_for_too_long_fails_closed(
    scripted_plane: ScriptedPeers,
) -> None:
    peers = scripted_plane
    secret = await peers.tenant("hermits", max_offline_seconds=900)
    patient = await peers.tenant("monks", max_offline_seconds=3600)
    # The last word is a quarter of an hour old: what a plane sees that was cut off since then.
    peers.known.beacon_age = timedelta(seconds=901)
    try:
        refused = await peers.data.answers(secret, 503)
        assert refused.json()["error"]["code"] == "offline_too_long"
        assert "retry-after" in refused.headers
        assert (await peers.data.get("/v1/models", patient)).status_code == 200
        assert (await peers.data.http.get("/readyz")).status_code == 200  # it serves who may be
    finally:
        peers.known.beacon_age = timedelta()
    await peers.data.serves(secret)


async def test_an_old_snapshot_sent_again_is_not_taken(scripted_plane: ScriptedPeers) -> None:
    old_key, new_key = new_api_key(), new_api_key()
    fields = tenant_fields("scripted", "replayed", api_key(old_key))
    old = await scripted_plane.control.put(Snapshot.model_validate(fields))
    await scripted_plane.data.serves(old_key)
    await scripted_plane.control.change("replayed", api_keys=(api_key(new_key),))
    await scripted_plane.data.serves(new_key)
    await scripted_plane.control.send("scripted", old)
    await scripted_plane.applied()
    assert (await scripted_plane.data.get("/v1/models", old_key)).status_code == 401
    assert (await scripted_plane.data.get("/v1/models", new_key)).status_code == 200


@pytest.fixture(scope="module")
async def wary(
    start_data_plane: StartDataPlane, scripted_control_plane: ScriptedControlPlane
) -> AsyncIterator[ScriptedPeers]:
    """A plane that will be sent forged documents: its cursor stands still from then on."""
    peers = await _pair(
        start_data_plane, scripted_control_plane, "wary", TENANTPLANE_PEERING__POLL_SECONDS="0.1"
    )
    yield peers
    await peers.data.close()


@pytest.mark.parametrize("how", ["tampered", "another signer", "another plane's", "moved cover"])
async def test_a_snapshot_that_is_not_the_control_planes_word_is_refused(
    wary: ScriptedPeers, how: str
) -> None:
    org_id = f"victim-of-{how.replace(' ', '-').replace(chr(39), '')}"
    secret, thief = await wary.tenant(org_id), new_api_key()
    forged = Snapshot.model_validate(tenant_fields("wary", org_id, api_key(thief)) | {"version": 2})
    await wary.control.send("wary", _bad(wary.control, forged, how))
    # It is asked for again and again, and never acknowledged.
    cursor, sequence = len(wary.known.log), wary.known.sequence

    async def asked() -> int:
        return wary.known.sequence

    await until(asked, lambda now: now > sequence + 5)
    assert (await wary.data.get("/v1/models", thief)).status_code == 401
    assert (await wary.data.get("/v1/models", secret)).status_code == 200
    assert max(wary.known.acknowledged.values()) < cursor


@pytest.mark.req("R16")
async def test_suspension_arrives_by_the_poll_where_there_is_no_stream(
    wary: ScriptedPeers,
) -> None:
    secret = await wary.tenant("unheard")
    await wary.known.end_streams()
    await wary.control.change("unheard", status="suspended")
    await wary.data.answers(secret, 403)  # polls come every 30 s, here every 0.1 s


@pytest.mark.req("R22", "R23")
async def test_lists_arrive_by_the_poll_where_there_is_no_stream(wary: ScriptedPeers) -> None:
    secret = await wary.tenant("unlisted")
    await wary.known.end_streams()
    await wary.control.change("unlisted", models=())

    async def models() -> list[object]:
        listed: list[object] = (await wary.data.get("/v1/models", secret)).json()["data"]
        return listed

    await until(models, lambda listed: not listed)


async def test_a_replica_that_lags_behind_another_asks_as_soon_as_it_hears_of_it(
    start_data_plane: StartDataPlane, scripted_control_plane: ScriptedControlPlane
) -> None:
    peers = await _pair(
        start_data_plane,
        scripted_control_plane,
        "laggard",
        TENANTPLANE_PEERING__POLL_SECONDS="60",
    )
    secret = await peers.tenant("moved-on")
    await peers.applied()
    await peers.known.end_streams()
    await peers.control.change("moved-on")
    twin = peers.data.twin()
    try:
        await twin.start()
        await peers.applied()  # by the twin, which asks when it starts
        assert (await twin.chat(secret, "hello")).status_code == 200
        stale = await peers.data.chat(secret, "hello")
        assert (stale.status_code, stale.json()["error"]["code"]) == (503, "stale_snapshot")
        # Long before the poll that comes in a minute.
        await until(lambda: peers.data.chat(secret, "hello"), lambda r: r.status_code == 200)
    finally:
        await twin.close()
        await peers.data.close()


def _bad(control: ScriptedControlPlane, snapshot: Snapshot, how: str) -> SignedSnapshot:
    signer = SigningKey.generate() if how == "another signer" else control.key
    if how == "another plane's":
        snapshot = snapshot.model_copy(update={"plane": "other"})
    jws = signer.sign(snapshot.model_dump(mode="json"), SNAPSHOT_TYP)
    if how == "tampered":
        genuine = control.plane(snapshot.plane).log[-1].jws.split(".")
        jws = ".".join((genuine[0], jws.split(".")[1], genuine[2]))
    version = snapshot.version + (how == "moved cover")
    return SignedSnapshot(org_id=snapshot.org_id, version=version, jws=jws)


@pytest.mark.fault("F62")
async def test_an_enrolment_whose_answer_was_lost_heals_with_the_same_key(
    start_data_plane: StartDataPlane, scripted_control_plane: ScriptedControlPlane
) -> None:
    known = scripted_control_plane.plane("amnesiac")
    known.lose_answers = 1_000_000
    data = await start_data_plane(
        scripted_control_plane.url, known.name, known.enrolment_token, ready=False
    )

    async def enrolments() -> int:
        return known.enrolments

    await until(enrolments, bool)
    first = known.public_jwk
    assert (await data.http.get("/readyz")).status_code == 503
    assert (await data.get("/v1/models", new_api_key())).status_code == 503
    await data.stop(signal.SIGKILL)
    known.lose_answers = 0
    await data.start()
    assert known.public_jwk == first  # a different key would have been refused
    assert await data.stop() == 0
    assert "Traceback" not in data.log.read_text()
    await data.close()


async def test_two_replicas_share_one_identity(scripted_plane: ScriptedPeers) -> None:
    secret = await scripted_plane.tenant("siblings")
    known, enrolments = scripted_plane.known, scripted_plane.known.enrolments
    twin = scripted_plane.data.twin()
    try:
        await twin.start()
        await twin.serves(secret)
        assert known.enrolments == enrolments
        await scripted_plane.control.change("siblings", api_keys=())
        await twin.answers(secret, 401)
        await scripted_plane.data.answers(secret, 401)
        assert len(known.acknowledged) >= 2
    finally:
        await twin.close()


async def test_a_plane_does_not_start_on_another_planes_database(
    scripted_plane: ScriptedPeers,
) -> None:
    squatter = scripted_plane.data.twin(TENANTPLANE_PLANE="squatter")
    with pytest.raises(pytest.fail.Exception, match="belongs to plane"):
        await squatter.start()
    assert await squatter.stop() == 1
    await squatter.http.aclose()
