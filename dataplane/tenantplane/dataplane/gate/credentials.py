"""What a request's header fields say about its caller. Pure: nothing is believed yet."""

from __future__ import annotations

from collections.abc import Sequence

from tenantplane.core.errors import Forbidden, Unauthenticated

Headers = Sequence[tuple[bytes, bytes]]  # as ASGI has them: names in lower case

_HOW = "Send one 'Authorization: Bearer <API key or access token>'."
# Fields in which a caller may repeat its org; they can contradict the credential, never replace it.
_ORG_FIELDS = frozenset({b"tenantplane-org", b"x-org-id"})
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})


def credential_field(headers: Headers) -> tuple[bytes, bytes]:
    """The one field that carries a credential, as it was sent.

    Raises Unauthenticated where there is none, or more than one: of two credentials a proxy and
    this gate might each believe a different one.
    """
    fields = [field for field in headers if field[0] in _CREDENTIALS]
    if not fields:
        raise Unauthenticated("The request carries no credential.", hint=_HOW, code="no_credential")
    if len(fields) > 1:
        raise Unauthenticated(
            "The request carries more than one credential.", hint=_HOW, code="ambiguous_credential"
        )
    return fields[0]


def secret_of(field: tuple[bytes, bytes]) -> str:
    """The API key or access token in a credential's field. Raises Unauthenticated."""
    name, value = field[0], field[1].decode("latin-1").strip()
    secret = _bearer(value) if name == b"authorization" else value
    if not secret.isascii() or secret.split() != [secret]:
        raise Unauthenticated(
            "The credential is malformed.", hint=_HOW, code="malformed_credential"
        )
    return secret


def require_same_org(headers: Headers, org_id: str) -> None:
    """Raises Forbidden where a header field names another org than the credential does (F9)."""
    for name, value in [field for field in headers if field[0] in _ORG_FIELDS]:
        if value.decode("latin-1").strip() != org_id:
            raise Forbidden(
                f"The field {name.decode()!r} names another org than the credential.",
                hint="Leave the field out: the credential alone says which org a request is for.",
                code="org_mismatch",
            )


def _bearer(value: str) -> str:
    # RFC 9110 section 11.1: the scheme's case does not matter.
    scheme, _, secret = value.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated(
            "The authorization scheme is not Bearer.", hint=_HOW, code="malformed_credential"
        )
    return secret.strip()
