"""Who is let in and who is not, through the running data plane."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from tenantplane.core.apis.snapshot import Level
from tenantplane.core.ids import new_api_key
from tenantplane.core.keys.signing import SigningKey
from tests.fixtures.dataplane import ScriptedPeers, bearer
from tests.fixtures.scripted_control_plane import api_key


@pytest.fixture
async def acme(scripted_plane: ScriptedPeers) -> str:
    """The API key of a tenant that is served; its org is `acme`."""
    if "acme" not in scripted_plane.control.snapshots:
        return await scripted_plane.tenant("acme")
    secret = new_api_key()
    await scripted_plane.control.change("acme", api_keys=(api_key(secret),))
    await scripted_plane.data.serves(secret)
    return secret


def code_of(body: dict[str, dict[str, str]]) -> str:
    return body["error"]["code"]


@pytest.mark.req("R15")
async def test_a_key_serves_until_it_is_revoked(scripted_plane: ScriptedPeers, acme: str) -> None:
    models = (await scripted_plane.data.get("/v1/models", acme)).json()
    assert "assistant-1" in {model["id"] for model in models["data"]}
    await scripted_plane.control.change("acme", api_keys=())
    refused = await scripted_plane.data.answers(acme, 401)
    assert code_of(refused.json()) == "unknown_api_key"


@pytest.mark.req("R15")
async def test_an_expired_key_is_refused(scripted_plane: ScriptedPeers, acme: str) -> None:
    expired = new_api_key()
    grant = api_key(expired, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await scripted_plane.control.change("acme", api_keys=(api_key(acme), grant))
    await scripted_plane.applied()
    refused = await scripted_plane.data.get("/v1/models", expired)
    assert (refused.status_code, code_of(refused.json())) == (401, "api_key_expired")


async def test_no_credential_two_credentials_and_an_unknown_key(
    scripted_plane: ScriptedPeers, acme: str
) -> None:
    http = scripted_plane.data.http
    two = [("authorization", f"Bearer {acme}"), ("x-api-key", acme)]
    for headers, code in (
        ([], "no_credential"),
        (two, "ambiguous_credential"),
        ([("authorization", f"Bearer {new_api_key()}")], "unknown_api_key"),
    ):
        refused = await http.get("/v1/models", headers=headers)
        assert (refused.status_code, code_of(refused.json())) == (401, code)
        assert refused.headers["www-authenticate"].startswith("Bearer")


async def test_an_own_issued_token_serves(scripted_plane: ScriptedPeers, acme: str) -> None:
    token = scripted_plane.control.mint("acme")
    for _ in range(2):  # verified, then from the cache
        assert (await scripted_plane.data.get("/v1/models", token)).status_code == 200


@pytest.mark.fault("F1")
@pytest.mark.fault("F2")
@pytest.mark.fault("F4")
@pytest.mark.fault("F5")
async def test_forged_tokens_are_refused(scripted_plane: ScriptedPeers, acme: str) -> None:
    control, now = scripted_plane.control, int(time.time())
    good = control.mint("acme")
    header, payload, signature = good.split(".")
    forged = {
        "alg none": f"{_segment({'alg': 'none', 'typ': 'at+jwt'})}.{payload}.",
        "HS256 under the public key": _hs256(control.key, payload),
        "another signer": _resigned(payload, SigningKey.generate()),
        "payload changed": f"{header}.{_segment({'org_id': 'globex'})}.{signature}",
        "wrong issuer": control.mint("acme", iss="https://evil.example"),
        "wrong audience": control.mint("acme", aud="tenantplane:control-plane"),
        "wrong type": control.mint("acme", typ="jwt"),
        "snapshot as token": control.mint("acme", typ="tp-snapshot+jwt"),
        "expired": control.mint("acme", exp=now - 1, iat=now - 60),
        "lives too long": control.mint("acme", exp=now + 86_400),
        "no expiry": control.mint("acme", exp=None),
        "jku": f"{_segment({'alg': 'ES256', 'typ': 'at+jwt', 'jku': 'https://evil.example'})}"
        f".{payload}.{signature}",
        "not a token": "eyJ.not.it",
    }
    for name, token in forged.items():
        answer = await scripted_plane.data.get("/v1/models", token)
        assert answer.status_code == 401, name
    assert (await scripted_plane.data.get("/v1/models", good)).status_code == 200


@pytest.mark.fault("F6")
async def test_a_flood_of_unknown_kids_fetches_the_keys_once(
    scripted_plane: ScriptedPeers, acme: str
) -> None:
    payload = scripted_plane.control.mint("acme").split(".")[1]
    before = scripted_plane.control.jwks_fetches
    for _ in range(30):
        token = _resigned(payload, SigningKey.generate())
        assert (await scripted_plane.data.get("/v1/models", token)).status_code == 401
    # Another may have been due by the clock: the cool-down is 10 s.
    assert scripted_plane.control.jwks_fetches - before <= 2


@pytest.mark.fault("F9")
@pytest.mark.req("R11")
async def test_no_header_overrides_the_credentials_org(
    scripted_plane: ScriptedPeers, acme: str
) -> None:
    data = scripted_plane.data
    for credential in (acme, scripted_plane.control.mint("acme")):
        for name in ("x-org-id", "tenantplane-org"):
            headers = bearer(credential)
            same = await data.http.get("/v1/models", headers=headers | {name: "acme"})
            other = await data.http.get("/v1/models", headers=headers | {name: "globex"})
            assert (same.status_code, other.status_code) == (200, 403)
            assert code_of(other.json()) == "org_mismatch"


async def test_stale_claims_are_told_to_exchange_again(
    scripted_plane: ScriptedPeers, acme: str
) -> None:
    control, data = scripted_plane.control, scripted_plane.data
    token = control.mint("acme")
    assert (await data.get("/v1/models", token)).status_code == 200
    epoch = control.snapshots["acme"].token_epoch
    await control.change("acme", token_epoch=epoch + 1)
    refused = await data.answers(token, 401)
    assert code_of(refused.json()) == "stale_claims"
    assert 'error="stale_claims"' in refused.headers["www-authenticate"]
    old_plan = control.mint("acme", plan="other")
    assert code_of((await data.get("/v1/models", old_plan)).json()) == "stale_claims"
    ahead = await data.get("/v1/models", control.mint("acme", epoch=epoch + 2))
    assert (ahead.status_code, code_of(ahead.json())) == (503, "snapshot_behind")
    assert "retry-after" in ahead.headers


async def test_another_planes_token_is_told_the_right_plane(
    scripted_plane: ScriptedPeers, acme: str
) -> None:
    control, data = scripted_plane.control, scripted_plane.data
    elsewhere = await data.get("/tp/v1/spend", control.mint("acme", plane="p-far", region="mars"))
    assert elsewhere.status_code == 421
    assert (elsewhere.json()["plane"], elsewhere.json()["region"]) == ("p-far", "mars")
    unknown = await data.get("/v1/models", control.mint("acme", org_id="nobody"))
    assert unknown.status_code == 421


@pytest.mark.req("R16")
async def test_suspension_arrives_by_the_stream(scripted_plane: ScriptedPeers) -> None:
    secret = await scripted_plane.tenant("hooli")
    token = scripted_plane.control.mint("hooli")
    await scripted_plane.control.change("hooli", status="suspended")
    began = time.monotonic()
    refused = await scripted_plane.data.answers(secret, 403)
    assert time.monotonic() - began < 3  # a second is promised; slack for a busy machine
    assert code_of(refused.json()) == "suspended"
    assert (await scripted_plane.data.get("/v1/models", token)).status_code == 403
    await scripted_plane.control.change("hooli", status="active")
    await scripted_plane.data.serves(secret)


async def test_suspension_of_the_umbrella_stops_its_orgs(scripted_plane: ScriptedPeers) -> None:
    levels = (Level(kind="org", id="umbrella"), Level(kind="org", id="leaf"))
    secret = await scripted_plane.tenant("leaf", root_org_id="umbrella", levels=levels)
    stopped = (Level(kind="org", id="umbrella", suspended=True), Level(kind="org", id="leaf"))
    await scripted_plane.control.change("leaf", levels=stopped)
    await scripted_plane.data.answers(secret, 403)


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _hs256(key: SigningKey, payload: str) -> str:
    header = _segment({"alg": "HS256", "typ": "at+jwt", "kid": key.kid})
    secret = json.dumps(key.public_jwk()).encode()
    code = hmac.new(secret, f"{header}.{payload}".encode(), hashlib.sha256).digest()
    return f"{header}.{payload}." + base64.urlsafe_b64encode(code).rstrip(b"=").decode()


def _resigned(payload: str, key: SigningKey) -> str:
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return key.sign(claims, "at+jwt")
