from __future__ import annotations

import pytest

from tenantplane.controlplane.registry import decisions
from tenantplane.controlplane.registry.decisions import Held, ParentOrg, Writer
from tenantplane.core.apis.tenant import Identity, OIDCIssuer, TenantSpec
from tenantplane.core.errors import Conflict, InvalidInput, TenantplaneError, Unprocessable

OBJECT = "kubernetes:u1"


def _held(writer: str = OBJECT, generation: int = 5, *, deleted: bool = False) -> Held:
    return Held("tenant 'acme'", writer, generation, deleted)


@pytest.mark.parametrize(
    ("held", "writer"),
    [
        (None, Writer(OBJECT, 1)),
        (_held(), Writer(OBJECT, 5)),
        (_held(), Writer(OBJECT, 6)),
        (_held(), Writer("cli", None, take_over=True)),
        (_held("cli", 9), Writer("cli", None)),
        (_held(deleted=True), Writer("kubernetes:u2", 1)),
        (_held(deleted=True), Writer("cli", None)),
        (_held("cli", deleted=True), Writer("cli", None)),
    ],
)
def test_a_rightful_writer_passes(held: Held | None, writer: Writer) -> None:
    decisions.fence(held, writer)


@pytest.mark.parametrize(
    ("held", "writer", "code"),
    [
        (_held(), Writer(OBJECT, 4), "stale_generation"),
        (_held(), Writer("kubernetes:u2", 99), "other_writer"),
        (_held(), Writer("cli", None), "other_writer"),
        (_held("cli"), Writer(OBJECT, 99), "other_writer"),
        (_held(deleted=True), Writer(OBJECT, 99), "stale_generation"),
        # Taking over from oneself does not turn the clock back.
        (_held(), Writer(OBJECT, 4, take_over=True), "stale_generation"),
    ],
)
def test_others_are_fenced(held: Held, writer: Writer, code: str) -> None:
    with pytest.raises(Conflict) as refused:
        decisions.fence(held, writer)
    assert refused.value.error_code == code
    assert refused.value.hint


def test_a_writer_without_generations_counts_its_own() -> None:
    assert Writer("cli", None).generation_over(7) == 8
    assert Writer(OBJECT, 3).generation_over(7) == 3


@pytest.mark.parametrize(
    ("name", "generation", "take_over", "paths"),
    [
        (None, None, None, ["tenantplane-writer"]),
        ("root", "1", None, ["tenantplane-writer"]),
        (OBJECT, None, None, ["tenantplane-generation"]),
        (OBJECT, "x", "maybe", ["tenantplane-generation", "tenantplane-take-over"]),
        ("cli", "1.5", None, ["tenantplane-generation"]),
    ],
)
def test_bad_headers_are_all_told(
    name: str | None, generation: str | None, take_over: str | None, paths: list[str]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        decisions.writer_from_headers(name, generation, take_over)
    assert [e.path for e in refused.value.errors] == paths


def test_headers_of_a_good_writer() -> None:
    assert decisions.writer_from_headers(OBJECT, "3", "true") == Writer(OBJECT, 3, True)
    assert decisions.writer_from_headers("cli", None, None) == Writer("cli", None)


PARENT = ParentOrg("umbrella", ("umbrella",), "active", "local")
CHILD = TenantSpec(plan="p", parent="umbrella")


def test_a_path_runs_from_the_root() -> None:
    assert decisions.path_under("acme", TenantSpec(plan="p"), None) == ("acme",)
    assert decisions.path_under("acme", CHILD, PARENT) == ("umbrella", "acme")


@pytest.mark.parametrize(
    ("parent", "kind"),
    [
        (None, Conflict),
        (ParentOrg("umbrella", ("umbrella",), "deleted", "local"), Conflict),
        (ParentOrg("umbrella", ("umbrella",), "suspended", "local"), Conflict),
        (ParentOrg("umbrella", ("umbrella",), "active", "eu"), Unprocessable),
        (ParentOrg("umbrella", ("a", "b", "c", "umbrella"), "active", "local"), Unprocessable),
    ],
)
def test_bad_parents(parent: ParentOrg | None, kind: type[TenantplaneError]) -> None:
    with pytest.raises(kind) as refused:
        decisions.path_under("acme", CHILD, parent)
    assert refused.value.errors


def test_tokens_die_on_suspension_and_when_an_issuer_goes() -> None:
    issuer = OIDCIssuer(type="oidc", issuer="https://idp", audience="a")
    plain = TenantSpec(plan="p")
    suspended = TenantSpec(plan="p", suspended=True)
    federated = TenantSpec(plan="p", identity=Identity(issuers=(issuer,)))
    changes = {
        (plain, suspended): 2,
        (suspended, suspended): 1,
        (suspended, plain): 1,
        (federated, plain): 2,
        (plain, federated): 1,
        (federated, federated): 1,
    }
    for (before, after), epoch in changes.items():
        assert decisions.next_epoch(1, before, after) == epoch


def test_the_message_about_a_plan_in_use_is_bounded() -> None:
    refused = decisions.plan_in_use("gold", [f"org-{i}" for i in range(500)])
    assert "org-9 and 490 more" in refused.detail
    assert "org-10" not in refused.detail
