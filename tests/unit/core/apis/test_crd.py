from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from tenantplane.core.apis import crd
from tenantplane.core.apis.limits import Limits
from tenantplane.core.apis.tenant import TenantSpec
from tenantplane.core.resources import folder

FORBIDDEN = {"$ref", "anyOf", "title", "additionalProperties", "$defs", "const"}


def _nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from _nodes(schema["items"], f"{path}[]")


@pytest.mark.parametrize("definition", [crd.tenant_definition(), crd.plan_definition()])
def test_schemas_are_structural_and_every_field_is_described(definition: dict[str, Any]) -> None:
    (version,) = definition["spec"]["versions"]
    root = version["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        for path, node in _nodes(root["properties"][part], part):
            assert not FORBIDDEN & node.keys(), path
            assert "type" in node, path
            assert path.endswith("[]") or node.get("description"), path


@pytest.mark.parametrize("name", crd.rendered())
def test_the_committed_files_are_fresh(name: str) -> None:
    assert (folder("crds") / name).read_text() == crd.rendered()[name]


def test_an_unknown_field_is_refused_and_named() -> None:
    with pytest.raises(ValidationError, match="hardCapUsd"):
        TenantSpec.model_validate({"plan": "p", "limits": {"hardCapUsd": "1"}})


def test_a_soft_cap_above_the_hard_cap_is_refused() -> None:
    with pytest.raises(ValidationError, match="lower it"):
        TenantSpec.model_validate({"plan": "p", "limits": {"softCapUSD": "2", "hardCapUSD": "1"}})


def test_a_tenants_limits_override_the_plans_field_by_field() -> None:
    plan = Limits.model_validate({"softCapUSD": "900", "requestsPerMinute": 60})
    tenant = Limits.model_validate({"hardCapUSD": "1"})
    assert tenant.over(plan).model_dump(exclude_none=True) == {
        "soft_cap_usd": "900",
        "requests_per_minute": 60,
        "hard_cap_usd": "1",
    }
