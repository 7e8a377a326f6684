"""Token exchange (RFC 8693) against a real OpenID Connect issuer."""

from __future__ import annotations

from collections.abc import Mapping

import httpx2
import pytest
import pytest_asyncio

from tenantplane.core.identity.claims import AUDIENCE_DATA_PLANE, AccessClaims
from tenantplane.core.identity.jwks import JwksCache
from tenantplane.core.identity.keyset import KeySet
from tenantplane.core.identity.verifier import TokenVerifier
from tests.fixtures.controlplane import ControlPlaneProcess, unique
from tests.fixtures.oidc import FromNow, OidcIssuer

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ANY_TOKEN = "urn:ietf:params:oauth:token-type:jwt"


@pytest_asyncio.fixture(loop_scope="session")
async def org_id(control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer) -> str:
    """A tenant with an issuer of its own, on a plane of its own."""
    region = unique("region")
    await control_plane.plane(region)
    return await control_plane.tenant(
        await control_plane.plan(), region=region, identity=_identity(oidc_issuer)
    )


def _identity(issuer: OidcIssuer, **changed: object) -> dict[str, object]:
    trusted = {
        "type": "oidc",
        "issuer": issuer.issuer,
        "audience": issuer.audience,
        "rolesClaim": "roles",
    }
    return {"issuers": [trusted | changed]}


async def _exchange(control_plane: ControlPlaneProcess, token: str, **form: str) -> httpx2.Response:
    body = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ANY_TOKEN}
    async with httpx2.AsyncClient(base_url=control_plane.url) as http:
        return await http.post("/oauth/token", data=body | form)


async def _claims(control_plane: ControlPlaneProcess, answer: httpx2.Response) -> AccessClaims:
    assert answer.status_code == 200, answer.text
    jwks = (await control_plane.http.get("/.well-known/jwks.json")).json()
    return TokenVerifier(JwksCache()).verify_own(
        answer.json()["access_token"],
        KeySet.from_jwks(jwks),
        control_plane.url,
        AUDIENCE_DATA_PLANE,
    )


@pytest.mark.req("R11")
async def test_claims_are_the_registrys(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer, org_id: str
) -> None:
    token = oidc_issuer.mint({"sub": "alice", "roles": ["admin", "member"]})
    answer = await _exchange(control_plane, token, audience=AUDIENCE_DATA_PLANE)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["token_type"] == "Bearer"
    assert answer.json()["issued_token_type"].endswith(":access_token")
    claims = await _claims(control_plane, answer)
    view = await control_plane.view(org_id)
    assert (claims.sub, claims.roles) == ("alice", ("admin", "member"))
    assert (claims.org_id, claims.root_org_id) == (org_id, org_id)
    assert (claims.plan, claims.region) == (view.spec.plan, view.spec.region)
    assert (claims.plane, claims.epoch) == (view.plane, view.token_epoch)


async def test_it_never_outlives_the_subject_token(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer, org_id: str
) -> None:
    short = await _exchange(control_plane, oidc_issuer.mint({"exp": FromNow(60)}))
    long = await _exchange(control_plane, oidc_issuer.mint({"exp": FromNow(7200)}))
    assert short.json()["expires_in"] <= 60
    assert long.json()["expires_in"] == 900


@pytest.mark.req("R12")
@pytest.mark.fault("F3")
async def test_an_orgs_issuer_cannot_assert_another_org(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer, org_id: str
) -> None:
    other = await control_plane.tenant(await control_plane.plan())
    refused = await _exchange(control_plane, oidc_issuer.mint({"org_id": other}))
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_grant")
    named = await _exchange(control_plane, oidc_issuer.mint(), org=other)
    assert (named.status_code, named.json()["code"]) == (401, "unknown_issuer")
    assert "issuer_asserted_other_org" in control_plane.log.read_text()
    own = await _exchange(control_plane, oidc_issuer.mint({"org_id": org_id}), org=org_id)
    assert own.status_code == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": FromNow(-10)},
        {"exp": None},
        {"nbf": FromNow(600)},
        {"aud": "somebody-else"},
        {"exp": FromNow(200_000)},
        {"plan": "platinum"},
        {"region": "moon"},
        {"sub": None},
    ],
    ids="-".join,
)
@pytest.mark.fault("F2", "F4")
async def test_bad_claims_are_refused(
    control_plane: ControlPlaneProcess,
    oidc_issuer: OidcIssuer,
    org_id: str,
    claims: Mapping[str, object],
) -> None:
    refused = await _exchange(control_plane, oidc_issuer.mint(claims))
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_grant")
    assert refused.json()["error_description"]


@pytest.mark.fault("F1", "F5")
async def test_bad_signatures_are_refused(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer, org_id: str
) -> None:
    good = oidc_issuer.mint()
    header, payload, _ = good.split(".")
    unsigned = oidc_issuer.mint(headers={"alg": "none"}).rsplit(".", 1)[0] + "."
    chosen = oidc_issuer.mint(headers={"jku": oidc_issuer.issuer + "/evil"})
    stranger = OidcIssuer()
    stranger.stop()
    foreign = stranger.mint({"iss": oidc_issuer.issuer})
    hits = oidc_issuer.hits.total()
    for token in (unsigned, chosen, f"{header}.{payload}.AAAA", "x", "a.b.c"):
        assert (await _exchange(control_plane, token)).status_code == 401
    assert oidc_issuer.hits["/evil"] == 0
    assert oidc_issuer.hits.total() <= hits + 2  # the keys, once
    assert (await _exchange(control_plane, foreign)).status_code == 401


async def test_an_unknown_issuer_is_never_fetched(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer
) -> None:
    refused = await _exchange(control_plane, oidc_issuer.mint())
    assert (refused.status_code, refused.json()["code"]) == (401, "unknown_issuer")
    assert oidc_issuer.hits.total() == 0


@pytest.mark.fault("F7")
async def test_an_issuer_that_is_away_is_a_dependency(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer, org_id: str
) -> None:
    token = oidc_issuer.mint()
    oidc_issuer.stop()
    refused = await _exchange(control_plane, token)
    assert (refused.status_code, refused.json()["error"]) == (503, "temporarily_unavailable")
    assert "retry-after" in refused.headers


async def test_suspended_and_deleted_tenants_get_no_token(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer, org_id: str
) -> None:
    before = await _claims(control_plane, await _exchange(control_plane, oidc_issuer.mint()))
    view = await control_plane.view(org_id)
    spec = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    await control_plane.put_tenant(org_id, spec | {"suspended": True})
    suspended = await _exchange(control_plane, oidc_issuer.mint())
    assert (suspended.status_code, suspended.json()["error"]) == (403, "access_denied")
    await control_plane.put_tenant(org_id, spec)
    resumed = await _claims(control_plane, await _exchange(control_plane, oidc_issuer.mint()))
    assert resumed.epoch == before.epoch + 1  # what was issued before has died
    await control_plane.http.delete(f"/v1/tenants/{org_id}")
    assert (await _exchange(control_plane, oidc_issuer.mint())).status_code == 401


async def test_two_tenants_of_one_issuer_are_told_apart_by_audience(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer, org_id: str
) -> None:
    region = (await control_plane.view(org_id)).spec.region
    plan = await control_plane.plan()
    second = await control_plane.tenant(
        plan, region=region, identity=_identity(oidc_issuer, audience="second")
    )
    taken = await control_plane.put_tenant(
        unique("org"), {"plan": plan, "identity": _identity(oidc_issuer)}
    )
    assert (taken.status_code, taken.json()["code"]) == (409, "issuer_taken")
    claims = await _claims(
        control_plane, await _exchange(control_plane, oidc_issuer.mint({"aud": "second"}))
    )
    assert claims.org_id == second
    both = oidc_issuer.mint({"aud": ["second", oidc_issuer.audience]})
    ambiguous = await _exchange(control_plane, both)
    assert (ambiguous.status_code, ambiguous.json()["code"]) == (401, "ambiguous_issuer")
    chosen = await _claims(control_plane, await _exchange(control_plane, both, org=org_id))
    assert chosen.org_id == org_id


async def test_an_issuer_that_leaves_the_manifest_speaks_for_nobody(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer, org_id: str
) -> None:
    view = await control_plane.view(org_id)
    spec = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    changed = await control_plane.put_tenant(org_id, spec | {"identity": {}})
    assert changed.json()["tokenEpoch"] == view.token_epoch + 1
    assert (await _exchange(control_plane, oidc_issuer.mint())).status_code == 401


async def test_a_tenant_without_a_plane_is_told_so(
    control_plane: ControlPlaneProcess, oidc_issuer: OidcIssuer
) -> None:
    await control_plane.tenant(
        await control_plane.plan(), region=unique("region"), identity=_identity(oidc_issuer)
    )
    refused = await _exchange(control_plane, oidc_issuer.mint())
    assert (refused.status_code, refused.json()["code"]) == (403, "no_plane")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": EXCHANGE}, "invalid_request"),
        ({"grant_type": EXCHANGE, "subject_token": "t"}, "invalid_request"),
        (
            {"grant_type": EXCHANGE, "subject_token": "t", "subject_token_type": "saml"},
            "invalid_request",
        ),
        (
            {
                "grant_type": EXCHANGE,
                "subject_token": "t",
                "subject_token_type": ANY_TOKEN,
                "audience": "elsewhere",
            },
            "invalid_target",
        ),
        ({"grant_type": "client_credentials", "client_id": "x"}, "invalid_request"),
    ],
)
async def test_malformed_requests(
    control_plane: ControlPlaneProcess, form: dict[str, str], error: str
) -> None:
    async with httpx2.AsyncClient(base_url=control_plane.url) as http:
        response = await http.post("/oauth/token", data=form)
        as_json = await http.post("/oauth/token", json=form)
    assert (response.status_code, response.json()["error"]) == (400, error)
    assert (as_json.status_code, as_json.json()["error"]) == (400, "invalid_request")
