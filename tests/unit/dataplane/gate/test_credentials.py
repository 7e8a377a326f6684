"""Of several credentials none is believed, and no header field overrides the one there is."""

from __future__ import annotations

import pytest

from tenantplane.core.errors import Forbidden, Unauthenticated
from tenantplane.dataplane.gate.credentials import (
    credential_field,
    require_same_org,
    secret_of,
)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer secret")],
        [(b"authorization", b"bearer  secret ")],
        [(b"x-api-key", b"secret")],
    ],
)
def test_one_credential_is_found(headers: list[tuple[bytes, bytes]]) -> None:
    assert secret_of(credential_field(headers)) == "secret"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "no_credential"),
        ([(b"cookie", b"a=b")], "no_credential"),
        (
            [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer a")],
            "ambiguous_credential",
        ),
        ([(b"authorization", b"Bearer a"), (b"x-api-key", b"a")], "ambiguous_credential"),
        ([(b"authorization", b"Bearer a, Bearer b")], "malformed_credential"),
        ([(b"authorization", b"Basic YTpi")], "malformed_credential"),
        ([(b"authorization", b"Bearer")], "malformed_credential"),
        ([(b"authorization", b"Bearer \xff\xfe")], "malformed_credential"),
        ([(b"x-api-key", b"")], "malformed_credential"),
        ([(b"x-api-key", b"a\x1fb")], "malformed_credential"),
    ],
)
def test_anything_else_is_refused_with_its_reason(
    headers: list[tuple[bytes, bytes]], code: str
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        secret_of(credential_field(headers))
    assert refused.value.error_code == code


@pytest.mark.parametrize("field", [b"x-org-id", b"tenantplane-org"])
def test_a_field_may_repeat_the_org_and_not_change_it(field: bytes) -> None:
    require_same_org([(field, b"acme")], "acme")
    with pytest.raises(Forbidden):
        require_same_org([(field, b"acme"), (field, b"globex")], "acme")
