from __future__ import annotations

import pytest

from tenantplane.core.errors import InvalidInput
from tenantplane.dataplane.sources.sql.administration import SourceName


@pytest.mark.parametrize("org_id", ["", "Acme", "acme::x", "a" * 41, "acme\n", "%"])
def test_a_source_belongs_to_an_org(org_id: str) -> None:
    with pytest.raises(InvalidInput, match="not an org id"):
        SourceName(org_id, "crm")
