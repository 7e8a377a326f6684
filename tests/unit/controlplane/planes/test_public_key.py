from __future__ import annotations

import pytest

from tenantplane.controlplane.planes.public_key import public_key
from tenantplane.core.errors import Unprocessable
from tenantplane.core.keys.signing import SigningKey


def test_a_key_is_reduced_to_its_public_members_and_named_by_its_thumbprint() -> None:
    key = SigningKey.generate()
    sent = key.public_jwk() | {"kid": "chosen-by-the-sender", "note": "x"}
    assert public_key(sent) == key.public_jwk()


@pytest.mark.parametrize(
    "changed", [{"d": "AAAA"}, {"kty": "RSA"}, {"crv": "P-384"}, {"x": ""}, {"y": "AAAA"}]
)
def test_others_are_refused(changed: dict[str, str]) -> None:
    with pytest.raises(Unprocessable) as refused:
        public_key(SigningKey.generate().public_jwk() | changed)
    assert refused.value.errors
