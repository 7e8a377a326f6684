from __future__ import annotations

import pytest

from tenantplane.controlplane.registry.catalogue.prompts import choose_versions
from tenantplane.core.entitlements import Lists, OrgEntitlement, PlanEntitlement

USABLE = {"p": [1, 2, 4], "q": [1]}


@pytest.mark.parametrize(
    ("plan", "allow", "deny", "chosen"),
    [
        (["p"], [], [], {"p": 4}),
        (["p@2"], [], [], {"p": 2}),
        (["p"], ["p@1"], [], {"p": 1}),
        (["p@1", "p@2"], [], [], {"p": 2}),
        (["p"], [], ["p@4"], {"p": 2}),
        (["p@2"], [], ["p"], {}),
        (["p@3"], [], [], {}),
        (["p@3", "p"], [], [], {"p": 4}),
        (["nothing"], [], [], {}),
        (["p", "q"], [], [], {"p": 4, "q": 1}),
    ],
    ids=[
        "the highest in force",
        "the one that is named",
        "the tenant's own choice",
        "the highest that is named",
        "not what is denied",
        "denied in every version",
        "not what was withdrawn",
        "what is left of two",
        "what is not there",
        "each by itself",
    ],
)
def test_one_version_of_each_prompt(
    plan: list[str], allow: list[str], deny: list[str], chosen: dict[str, int]
) -> None:
    lists = Lists(
        tuple(PlanEntitlement("prompt", name) for name in plan),
        (
            *(OrgEntitlement("prompt", name, "allow") for name in allow),
            *(OrgEntitlement("prompt", name, "deny") for name in deny),
        ),
    )
    assert choose_versions(lists, USABLE) == chosen
