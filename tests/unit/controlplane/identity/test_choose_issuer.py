from __future__ import annotations

import pytest

from tenantplane.controlplane.identity.service import OrgIssuer, choose_issuer
from tenantplane.core.apis.tenant import OIDCIssuer
from tenantplane.core.errors import Unauthenticated


def _of(org_id: str, audience: str) -> OrgIssuer:
    return OrgIssuer(org_id, OIDCIssuer(type="oidc", issuer="https://idp", audience=audience))


A, B = _of("acme", "a"), _of("globex", "b")


def test_the_audience_decides() -> None:
    assert choose_issuer([A, B], frozenset({"b", "other"}), None) is B


def test_the_named_org_decides_among_those_that_fit() -> None:
    assert choose_issuer([A, B], frozenset({"a", "b"}), "acme") is A


@pytest.mark.parametrize(
    ("audiences", "org", "code"),
    [
        (set(), None, "unknown_issuer"),
        ({"c"}, None, "unknown_issuer"),
        ({"a"}, "globex", "unknown_issuer"),
        ({"a", "b"}, None, "ambiguous_issuer"),
    ],
)
def test_none_or_several_is_refused(audiences: set[str], org: str | None, code: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        choose_issuer([A, B], frozenset(audiences), org)
    assert refused.value.error_code == code
