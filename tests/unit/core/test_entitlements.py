from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantplane.core.apis.plan import PlanEntitlements
from tenantplane.core.apis.tenant import Grants, PromptGrants, TenantEntitlements
from tenantplane.core.entitlements import (
    Explanation,
    Lists,
    OrgEntitlement,
    PlanEntitlement,
    RoleRow,
    Row,
    Why,
    bound_to_roles,
    explain,
    for_roles,
    org_rows,
    plan_rows,
    resolve,
    role_rows,
)

NAMES = st.sets(st.sampled_from("abcdef"))
ROLES = st.sets(st.sampled_from("xyz"))
BOUND = st.sets(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xyz")))
PROMPTS = st.sets(st.sampled_from(["a", "a@1", "a@2", "b", "b@1"]))


def _org(allow: Iterable[str], deny: Iterable[str]) -> tuple[OrgEntitlement, ...]:
    return (
        *(OrgEntitlement("tool", name, "allow") for name in allow),
        *(OrgEntitlement("tool", name, "deny") for name in deny),
    )


def _lists(
    plan: Iterable[str] = (),
    allow: Iterable[str] = (),
    deny: Iterable[str] = (),
    plan_roles: Iterable[tuple[str, str]] = (),
    org_roles: Iterable[tuple[str, str]] = (),
) -> Lists:
    return Lists(
        tuple(PlanEntitlement("tool", name) for name in plan),
        _org(allow, deny),
        tuple(RoleRow("tool", name, role) for name, role in plan_roles),
        tuple(RoleRow("tool", name, role) for name, role in org_roles),
    )


@pytest.mark.req("R20")
@given(plan=NAMES, allow=NAMES, deny=NAMES)
def test_resolves_as_the_design_says(plan: set[str], allow: set[str], deny: set[str]) -> None:
    lists = _lists(plan, allow, deny)
    assert resolve("tool", lists.plan, lists.org) == tuple(sorted((plan | allow) - deny))
    assert resolve("model", lists.plan, lists.org) == ()


@pytest.mark.req("R24")
@given(plan=NAMES, allow=NAMES, deny=NAMES, planned=BOUND, own=BOUND, roles=ROLES)
def test_a_role_sees_what_is_for_it_and_what_is_for_all(
    plan: set[str],
    allow: set[str],
    deny: set[str],
    planned: set[tuple[str, str]],
    own: set[tuple[str, str]],
    roles: set[str],
) -> None:
    lists = _lists(plan, allow, deny, planned, own)
    resolved = resolve("tool", lists.plan, lists.org)
    bound = bound_to_roles((*lists.plan_roles, *lists.org_roles))
    needs = {name: {r for n, r in planned | own if n == name} for name in "abcdef"}
    wanted = sorted(
        name for name in (plan | allow) - deny if not needs[name] or needs[name] & roles
    )
    assert list(for_roles("tool", resolved, bound, roles)) == wanted
    assert for_roles("model", resolved, bound, roles) == resolved
    # What is explained is what is decided.
    for name in "abcdef":
        assert explain("tool", name, lists, roles).allowed == (name in wanted)
        assert explain("model", name, lists, roles).reason is Why.NOT_IN_PLAN


@given(plan=PROMPTS, allow=PROMPTS, deny=PROMPTS)
def test_a_denied_prompt_is_denied_in_every_version(
    plan: set[str], allow: set[str], deny: set[str]
) -> None:
    planned = [PlanEntitlement("prompt", name) for name in plan]
    own = [OrgEntitlement("prompt", name, "allow") for name in allow]
    own += [OrgEntitlement("prompt", name, "deny") for name in deny]
    wanted = {n for n in plan | allow if not {n, n.partition("@")[0]} & deny}
    assert set(resolve("prompt", planned, own)) == wanted


def test_a_role_is_asked_for_by_the_prompts_name_whatever_its_version() -> None:
    bound = bound_to_roles([RoleRow("prompt", "greeting", "admin")])
    assert for_roles("prompt", ["greeting@3", "other"], bound, ["user"]) == ("other",)
    assert for_roles("prompt", ["greeting@3"], bound, ["user", "admin"]) == ("greeting@3",)


def test_nothing_is_allowed_by_default() -> None:
    assert resolve("model", [], []) == ()
    assert explain("model", "m", Lists(), None).reason is Why.NOT_IN_PLAN


def test_manifests_mean_rows_kind_by_kind_each_once() -> None:
    plan = PlanEntitlements.model_validate(
        {
            "tools": ["clock", "clock"],
            "models": ["clock"],
            "prompts": ["greeting@2"],
            "dataSources": ["clock", "usage"],
            "roleBound": [
                {"role": "admin", "tools": ["clock"], "dataSources": ["usage"]},
                {"role": "boss", "tools": ["clock"], "prompts": ["greeting"]},
            ],
        }
    )
    assert plan_rows(plan) == [
        PlanEntitlement("tool", "clock"),
        PlanEntitlement("model", "clock"),
        PlanEntitlement("prompt", "greeting@2"),
        PlanEntitlement("data_source", "clock"),
        PlanEntitlement("data_source", "usage"),
    ]
    assert [(b.kind, b.name, b.roles) for b in bound_to_roles(role_rows(plan))] == [
        ("data_source", "usage", ("admin",)),
        ("prompt", "greeting", ("boss",)),
        ("tool", "clock", ("admin", "boss")),
    ]
    own = TenantEntitlements(
        models=Grants(deny=("clock",)),
        prompts=PromptGrants(allow=("bye",)),
        data_sources=Grants(allow=("documents",), deny=("clock",)),
    )
    assert org_rows(own) == [
        OrgEntitlement("model", "clock", "deny"),
        OrgEntitlement("prompt", "bye", "allow"),
        OrgEntitlement("data_source", "documents", "allow"),
        OrgEntitlement("data_source", "clock", "deny"),
    ]


PLANNED = Row("plan", "allow", "a")
OWN = Row("tenant", "allow", "a")
DENIED = Row("tenant", "deny", "a")
FOR_X = Row("plan", "role_bound", "a", ("x",))
FOR_Y = Row("tenant", "role_bound", "a", ("y",))


@pytest.mark.parametrize(
    ("lists", "roles", "told"),
    [
        (_lists(["b"]), (), Explanation(False, Why.NOT_IN_PLAN)),
        (_lists(["a"]), None, Explanation(True, Why.GRANTED, (PLANNED,))),
        (_lists(["a"], ["a"]), (), Explanation(True, Why.GRANTED, (PLANNED, OWN))),
        (_lists(["a"], [], ["a"]), (), Explanation(False, Why.DENIED, (DENIED,))),
        (_lists(["a"], [], [], [("a", "x")]), None, Explanation(False, Why.ROLE_UNKNOWN, (FOR_X,))),
        (
            _lists(["a"], [], [], [("a", "x")], [("a", "y")]),
            ("z",),
            Explanation(False, Why.ROLE_MISSING, (FOR_X, FOR_Y)),
        ),
        (
            _lists(["a"], [], [], [("a", "x")], [("a", "y")]),
            ("y",),
            Explanation(True, Why.GRANTED, (PLANNED, FOR_X, FOR_Y)),
        ),
    ],
    ids=["not listed", "plan", "both", "denied", "roles unknown", "no such role", "one of two"],
)
def test_the_rows_that_counted_are_named(
    lists: Lists, roles: tuple[str, ...] | None, told: Explanation
) -> None:
    assert explain("tool", "a", lists, roles) == told


def test_what_cannot_be_had_is_told_from_what_is_not_allowed() -> None:
    lists = Lists((PlanEntitlement("model", "m"), PlanEntitlement("prompt", "p@3")))
    assert explain("model", "m", lists, (), {"other"}).reason is Why.NO_PRICE
    assert explain("prompt", "p", lists, (), set()).reason is Why.PROMPT_WITHOUT_VERSION
    assert explain("prompt", "p", lists, (), {"p"}).allowed
