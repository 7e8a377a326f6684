"""What a request's header fields say about its caller. Pure: nothing is believed yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenantplane.core.errors import Forbidden, Unauthenticated

Headers = Sequence[tuple[bytes, bytes]]  # as ASGI has them: names in lower case

_HOW = "Send one 'Authorization: Bearer <API key or access token>'."
# Fields in which a caller may repeat its org; they can contradict the credential, never replace it.
_ORG_FIELDS = (b"tenantplane-org", b"x-org-id")


def credential_of(headers: Headers) -> str:
    """The one API key or access token of a request.

    Raises Unauthenticated where there is none, or more than one: of two credentials a proxy and
    this gate might each believe a different one.
    """
    fields = list(_values(headers, (b"authorization", b"x-api-key")))
    if not fields:
        raise Unauthenticated("The request carries no credential.", hint=_HOW, code="no_credential")
    if len(fields) > 1:
        raise Unauthenticated(
            "The request carries more than one credential.", hint=_HOW, code="ambiguous_credential"
        )
    name, value = fields[0]
    secret = _bearer(value) if name == b"authorization" else value
    if not secret or not secret.isascii() or any(c.isspace() for c in secret):
        raise Unauthenticated(
            "The credential is malformed.", hint=_HOW, code="malformed_credential"
        )
    return secret


def require_same_org(headers: Headers, org_id: str) -> None:
    """Raises Forbidden where a header field names another org than the credential does (F9)."""
    for name, value in _values(headers, _ORG_FIELDS):
        if value != org_id:
            raise Forbidden(
                f"The field {name.decode()!r} names another org than the credential.",
                hint="Leave the field out: the credential alone says which org a request is for.",
                code="org_mismatch",
            )


def _values(headers: Headers, names: Iterable[bytes]) -> Iterable[tuple[bytes, str]]:
    return [(n, v.decode("latin-1").strip()) for n, v in headers if n in names]


def _bearer(value: str) -> str:
    # RFC 9110 section 11.1: the scheme's case does not matter.
    scheme, _, secret = value.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated(
            "The authorization scheme is not Bearer.", hint=_HOW, code="malformed_credential"
        )
    return secret.strip()
