"""The token endpoint's form (RFC 6749 section 4, RFC 7523, RFC 8693) as typed requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from tenantplane.controlplane.identity.service import TOKEN_USES
from tenantplane.core.errors import InvalidInput
from tenantplane.core.identity.claims import AUDIENCE_DATA_PLANE, PLANE_SUBJECT_PREFIX
from tenantplane.core.identity.external_claims import TokenUse

CLIENT_CREDENTIALS: Final = "client_credentials"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 (a name)
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FORM: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 20


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """A plane proves its key."""

    client_id: str
    plane: str
    assertion: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenExchange:
    """A user's IdP token is exchanged; `org` settles which tenant, where several fit."""

    subject_token: str = field(repr=False)
    use: TokenUse
    org: str | None


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """Raises InvalidInput; a parameter twice is one (RFC 6749 section 3.2)."""
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise InvalidInput(f"The token endpoint takes {_FORM}.", code="invalid_request")
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidInput("The form cannot be read.", code="invalid_request") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise InvalidInput("A form field is there twice.", code="invalid_request")
    return form


def parse(form: dict[str, str]) -> ClientCredentials | TokenExchange:
    """Raises InvalidInput with RFC 6749's error code as its own."""
    match form.get("grant_type"):
        case "client_credentials":
            return _client_credentials(form)
        case grant if grant == TOKEN_EXCHANGE:
            return _token_exchange(form)
        case None | "":
            raise InvalidInput("grant_type is missing.", code="invalid_request")
    raise InvalidInput(
        "The grant type is not supported.",
        hint=f"Use {CLIENT_CREDENTIALS} or {TOKEN_EXCHANGE}.",
        code="unsupported_grant_type",
    )


def _client_credentials(form: dict[str, str]) -> ClientCredentials:
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise InvalidInput(
            f"client_assertion_type is not {ASSERTION_TYPE}.", code="invalid_request"
        )
    client_id = _required(form, "client_id")
    if not client_id.startswith(PLANE_SUBJECT_PREFIX):
        raise InvalidInput(
            f"client_id is '{PLANE_SUBJECT_PREFIX}<name>' of an enrolled plane.",
            code="invalid_request",
        )
    return ClientCredentials(
        client_id=client_id,
        plane=client_id.removeprefix(PLANE_SUBJECT_PREFIX),
        assertion=_required(form, "client_assertion"),
    )


def _token_exchange(form: dict[str, str]) -> TokenExchange:
    use = TOKEN_USES.get(_required(form, "subject_token_type"))
    if use is None:
        raise InvalidInput(
            "subject_token_type is not supported.",
            hint=f"Use one of {', '.join(TOKEN_USES)}.",
            code="invalid_request",
        )
    if form.get("audience", AUDIENCE_DATA_PLANE) != AUDIENCE_DATA_PLANE:
        raise InvalidInput(
            "No token is issued for that audience.",
            hint=f"Use audience={AUDIENCE_DATA_PLANE}, or leave it out.",
            code="invalid_target",
        )
    if "actor_token" in form:
        raise InvalidInput("Delegation (actor_token) is not supported.", code="invalid_request")
    return TokenExchange(
        subject_token=_required(form, "subject_token"), use=use, org=form.get("org") or None
    )


def _required(form: dict[str, str], name: str) -> str:
    value = form.get(name)
    if not value:
        raise InvalidInput(f"{name} is missing.", code="invalid_request")
    return value
