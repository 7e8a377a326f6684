"""The control plane as an issuer: token endpoint, discovery, keys."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from tenantplane.controlplane import jobs
from tenantplane.controlplane.deps import ServicesDep
from tenantplane.controlplane.identity import forms
from tenantplane.controlplane.identity.forms import ClientCredentials, TokenExchange
from tenantplane.controlplane.identity.schemas import TokenAnswer
from tenantplane.controlplane.identity.service import OrgIssuer, audiences_of, choose_issuer
from tenantplane.controlplane.services import Services
from tenantplane.core.errors import (
    DependencyUnavailable,
    Forbidden,
    InvalidInput,
    TenantplaneError,
    Unauthenticated,
)
from tenantplane.core.identity.verifier import peek_issuer

router = APIRouter()

# RFC 6749 section 5.1: tokens are not for caches.
_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}
# Planes and verifiers hold keys for five minutes; a new key is published before it signs.
_KEYS_FOR_A_WHILE: Final = {"cache-control": "public, max-age=300"}


@router.post("/oauth/token", response_model=TokenAnswer, response_model_exclude_none=True)
async def token(services: ServicesDep, request: Request) -> Response:
    """RFC 6749 section 5; errors in the shape of its section 5.2."""
    wanted: ClientCredentials | TokenExchange | None = None
    try:
        form = forms.read_form(request.headers.get("content-type", ""), await request.body())
        wanted = forms.parse(form)
        if isinstance(wanted, ClientCredentials):
            answer = await _for_plane(services, wanted)
        else:
            answer = await _for_user(services, wanted)
    except TenantplaneError as error:
        return _oauth_error(error, isinstance(wanted, ClientCredentials))
    return JSONResponse(answer.model_dump(exclude_none=True), headers=_NO_STORE)


@router.get("/.well-known/jwks.json")
async def jwks(services: ServicesDep) -> Response:
    """RFC 7517 section 5."""
    return JSONResponse(services.identity.keys.to_jwks(), headers=_KEYS_FOR_A_WHILE)


@router.get("/.well-known/openid-configuration")
@router.get("/.well-known/oauth-authorization-server")
async def discovery(services: ServicesDep) -> Response:
    """OpenID Connect Discovery 1.0 section 3; RFC 8414 section 2."""
    return JSONResponse(_metadata(services.identity.issuer), headers=_KEYS_FOR_A_WHILE)


async def _for_plane(services: Services, wanted: ClientCredentials) -> TokenAnswer:
    async with services.database.system_tx(jobs.ISSUE) as cursor:
        plane = await services.planes.read(cursor, wanted.plane)
        return await services.identity.plane_token(
            cursor, plane, wanted.client_id, wanted.assertion
        )


async def _for_user(services: Services, wanted: TokenExchange) -> TokenAnswer:
    issuer_url = peek_issuer(wanted.subject_token)
    async with services.database.system_tx(jobs.ISSUE) as cursor:
        named = await services.registry.issuers_named(cursor, issuer_url)
    issuer = choose_issuer(
        [OrgIssuer(org_id, rules) for org_id, rules in named],
        audiences_of(wanted.subject_token),
        wanted.org,
    )
    # No transaction is open here: the issuer's keys may have to be fetched.
    identity = await services.identity.verify_subject(wanted.subject_token, issuer, wanted.use)
    async with services.database.system_tx(jobs.ISSUE) as cursor:
        org = await services.registry.standing(cursor, issuer.org_id)
    if org is None:
        raise Unauthenticated("The issuer speaks for no tenant.", code="unknown_issuer")
    return services.identity.user_token(identity, org)


def _oauth_error(error: TenantplaneError, of_client: bool) -> Response:
    """401 and 403 as everywhere else in the product, where RFC 8693 would have 400."""
    match error:
        case Unauthenticated():
            code = "invalid_client" if of_client else "invalid_grant"
        case Forbidden():
            code = "access_denied"
        case DependencyUnavailable():
            code = "temporarily_unavailable"
        case InvalidInput():
            code = error.error_code
        case _:
            code = "server_error"
    body = {"error": code, "error_description": str(error), "code": error.error_code}
    return JSONResponse(body, error.status, headers=_NO_STORE | error.headers())


def _metadata(issuer: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "token_endpoint": f"{issuer}/oauth/token",
        "grant_types_supported": [forms.CLIENT_CREDENTIALS, forms.TOKEN_EXCHANGE],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        # Required by OpenID Connect Discovery; there is no authorization endpoint yet.
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }
