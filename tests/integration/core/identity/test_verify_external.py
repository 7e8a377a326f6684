"""Tokens of another issuer, verified with keys fetched from it (F1, F2, F4, F5)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tenantplane.core.apis.tenant import OIDCIssuer
from tenantplane.core.errors import Unauthenticated
from tenantplane.core.identity.external_claims import TokenUse
from tenantplane.core.identity.jwks import JwksCache
from tenantplane.core.identity.presets import IssuerRules, generic_oidc
from tenantplane.core.identity.verifier import TokenVerifier, peek_issuer
from tests.fixtures.oidc import FromNow, OidcIssuer
from tests.integration.core.identity.forged_tokens import (
    FORGERIES,
    MAX_LIFETIME_SECONDS,
    ROLES_CLAIM,
    Forge,
)


@pytest.fixture
async def verifier() -> AsyncIterator[TokenVerifier]:
    cache = JwksCache()
    yield TokenVerifier(cache)
    await cache.aclose()


@pytest.fixture
def rules(oidc_issuer: OidcIssuer) -> IssuerRules:
    return generic_oidc(
        OIDCIssuer(
            type="oidc",
            issuer=oidc_issuer.issuer,
            audience=oidc_issuer.audience,
            roles_claim=ROLES_CLAIM,
            max_lifetime_seconds=MAX_LIFETIME_SECONDS,
        )
    )


@pytest.mark.parametrize(
    "alg", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
)
async def test_a_good_token_of_each_algorithm(
    verifier: TokenVerifier, oidc_issuer: OidcIssuer, rules: IssuerRules, alg: str
) -> None:
    oidc_issuer.rotate(alg)
    expiry = int(time.time()) + 600
    token = oidc_issuer.mint({"sub": "bob", "roles": ["editor", "admin"], "exp": expiry})
    who = await verifier.verify_external(token, rules)
    assert (who.user_id, who.issuer) == ("bob", oidc_issuer.issuer)
    assert who.roles == {"editor", "admin"}
    assert who.expires_at.timestamp() == expiry
    assert who.claims["aud"] == oidc_issuer.audience
    assert peek_issuer(token) == oidc_issuer.issuer


@pytest.mark.parametrize(
    ("claims", "headers"),
    [
        ({"aud": ["other", "tenantplane-tests"]}, {}),
        ({}, {"typ": None}),
        ({}, {"typ": "at+jwt"}),
        ({}, {"typ": "application/at+JWT"}),
        ({}, {"kid": None}),
        ({"iat": None}, {}),
        ({"nbf": FromNow(-10)}, {}),
        ({"exp": FromNow(60.5)}, {}),
        ({"typ": "Bearer", "nonce": "older Keycloak has it in access tokens too"}, {}),
        ({"token_use": "access"}, {}),
    ],
)
async def test_good_tokens_of_many_vendors(
    verifier: TokenVerifier,
    oidc_issuer: OidcIssuer,
    rules: IssuerRules,
    claims: dict[str, object],
    headers: dict[str, object],
) -> None:
    who = await verifier.verify_external(oidc_issuer.mint(claims, headers), rules)
    assert who.user_id == "alice"


@pytest.mark.parametrize(
    "forge",
    [pytest.param(forge, id=f"{fault} {name}") for fault, name, forge in FORGERIES],
)
async def test_a_forgery_is_refused(
    verifier: TokenVerifier,
    oidc_issuer: OidcIssuer,
    rules: IssuerRules,
    forge: Forge,
) -> None:
    token = forge(oidc_issuer)
    with pytest.raises(Unauthenticated) as refused:
        await verifier.verify_external(token, rules)
    assert refused.value.status == 401
    assert token == "" or token not in str(refused.value)
    # The issuer is there and would have been believed: it is the token that is refused.
    assert (await verifier.verify_external(oidc_issuer.mint(), rules)).user_id == "alice"


@pytest.mark.parametrize("header", ["jku", "x5u"])
async def test_nothing_is_fetched_for_a_header_that_points_somewhere(
    verifier: TokenVerifier, oidc_issuer: OidcIssuer, rules: IssuerRules, header: str
) -> None:
    token = oidc_issuer.mint(headers={header: oidc_issuer.issuer + "/attacker"})
    with pytest.raises(Unauthenticated):
        await verifier.verify_external(token, rules)
    assert not oidc_issuer.hits


async def test_without_a_kid_a_token_fits_no_choice_of_keys(
    verifier: TokenVerifier, oidc_issuer: OidcIssuer, rules: IssuerRules
) -> None:
    oidc_issuer.add_key()
    with pytest.raises(Unauthenticated):
        await verifier.verify_external(oidc_issuer.mint(headers={"kid": None}), rules)


@pytest.mark.parametrize(
    ("use", "claims", "typ", "accepted"),
    [
        ("id_token", {"nonce": "n"}, "JWT", True),
        ("jwt", {"nonce": "n"}, "JWT", True),
        ("jwt", {}, "at+jwt", True),
        ("id_token", {}, "at+jwt", False),
        ("id_token", {"typ": "Bearer"}, "JWT", False),
        ("id_token", {"token_use": "access"}, "JWT", False),
    ],
)
async def test_an_id_token_is_taken_where_one_is_wanted_alone(
    verifier: TokenVerifier,
    oidc_issuer: OidcIssuer,
    rules: IssuerRules,
    use: TokenUse,
    claims: dict[str, object],
    typ: str,
    accepted: bool,
) -> None:
    token = oidc_issuer.mint(claims, {"typ": typ})
    if accepted:
        assert (await verifier.verify_external(token, rules, use)).user_id == "alice"
        return
    with pytest.raises(Unauthenticated):
        await verifier.verify_external(token, rules, use)


async def test_claims_are_mapped_as_the_issuer_has_them(
    verifier: TokenVerifier, oidc_issuer: OidcIssuer, rules: IssuerRules
) -> None:
    token = oidc_issuer.mint(
        {
            "email": "a@example.com",
            "realm_access": {"roles": ["nested"]},
            "https://acme.example/roles": "space parted",
        }
    )
    nested = replace(rules, user_claim="email", roles_claim="realm_access.roles")
    who = await verifier.verify_external(token, nested)
    assert who.user_id == "a@example.com"
    assert who.roles == {"nested"}
    named = replace(rules, roles_claim="https://acme.example/roles")
    assert (await verifier.verify_external(token, named)).roles == {"space", "parted"}
    absent = replace(rules, roles_claim="nowhere.at.all")
    assert (await verifier.verify_external(token, absent)).roles == frozenset()


async def test_a_vendor_without_aud_is_held_to_its_own_audience_claim(
    verifier: TokenVerifier, oidc_issuer: OidcIssuer, rules: IssuerRules
) -> None:
    by_azp = replace(rules, audience_claims=("aud", "azp"))
    good = oidc_issuer.mint({"aud": None, "azp": oidc_issuer.audience})
    assert (await verifier.verify_external(good, by_azp)).user_id == "alice"
    with pytest.raises(Unauthenticated):  # aud is there: azp does not rescue it
        await verifier.verify_external(
            oidc_issuer.mint({"aud": "other", "azp": oidc_issuer.audience}), by_azp
        )


async def test_the_issuers_list_of_algorithms_is_kept_though_its_key_would_verify(
    verifier: TokenVerifier, oidc_issuer: OidcIssuer, rules: IssuerRules
) -> None:
    narrow = replace(rules, algorithms=frozenset({"PS256", "ES256"}))
    with pytest.raises(Unauthenticated, match="not on the issuer's list"):
        await verifier.verify_external(oidc_issuer.mint(), narrow)
