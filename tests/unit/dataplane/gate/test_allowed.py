"""What a caller may use: the org's list, its roles, its key's scopes; each alone keeps it out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tenantplane.core.apis.catalogue import Kind
from tenantplane.core.apis.snapshot import ModelGrant, PromptGrant, RoleBound, Snapshot
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.allowed import (
    allowed_model,
    allowed_models,
    allowed_names,
    allowed_prompt,
    is_allowed,
)

KINDS: tuple[Kind, ...] = ("tool", "model", "prompt", "data_source")


def model(name: str) -> ModelGrant:
    return ModelGrant(
        name=name,
        provider="p",
        upstream_model=name,
        input_nanousd_per_token=1,
        output_nanousd_per_token=1,
        max_output_tokens=10,
        context_tokens=100,
    )


SNAPSHOT = Snapshot(
    org_id="acme",
    root_org_id="acme",
    version=1,
    issued_at=datetime(2026, 1, 1, tzinfo=UTC),
    status="active",
    plane="p",
    region="r",
    plan="pro",
    token_epoch=0,
    max_offline_seconds=900,
    price_book_version=1,
    levels=(),
    tools=("free", "kept"),
    models=(model("free"), model("kept")),
    data_sources=("free", "kept"),
    prompts=tuple(PromptGrant(name=n, version=2, text=n) for n in ("free", "kept")),
    role_bound=tuple(RoleBound(kind=k, name="kept", roles=("lawyer", "admin")) for k in KINDS),
)


def caller(*roles: str, scopes: frozenset[str] | None = None) -> TenantContext:
    return TenantContext(
        "acme", "acme", "user:u", "u", "pro", "r", roles=frozenset(roles), scopes=scopes
    )


@pytest.mark.req("R20", "R24")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_for_a_role_is_for_its_holders_alone(kind: Kind) -> None:
    assert allowed_names(kind, SNAPSHOT, caller()) == ("free",)
    assert allowed_names(kind, SNAPSHOT, caller("clerk")) == ("free",)
    assert allowed_names(kind, SNAPSHOT, caller("lawyer")) == ("free", "kept")
    assert not is_allowed(kind, "kept", SNAPSHOT, caller())
    assert is_allowed(kind, "kept", SNAPSHOT, caller("admin"))
    assert not is_allowed(kind, "unheard-of", SNAPSHOT, caller("admin"))


@pytest.mark.parametrize("kind", KINDS)
def test_scopes_narrow_and_never_widen(kind: Kind) -> None:
    assert allowed_names(kind, SNAPSHOT, caller("lawyer", scopes=frozenset({"kept"}))) == ("kept",)
    assert allowed_names(kind, SNAPSHOT, caller(scopes=frozenset({"kept"}))) == ()
    assert allowed_names(kind, SNAPSHOT, caller(scopes=frozenset({"unheard-of"}))) == ()
    assert not is_allowed(kind, "free", SNAPSHOT, caller(scopes=frozenset({"kept"})))
    assert is_allowed(kind, "free", SNAPSHOT, caller(scopes=frozenset({"free"})))


def test_grants_are_found_by_whoever_may_use_them() -> None:
    assert [m.name for m in allowed_models(SNAPSHOT, caller())] == ["free"]
    assert allowed_model(SNAPSHOT, caller(), "kept") is None
    assert allowed_model(SNAPSHOT, caller("lawyer"), "kept") == model("kept")
    assert allowed_prompt(SNAPSHOT, caller(), "kept") is None
    prompt = allowed_prompt(SNAPSHOT, caller("lawyer"), "kept")
    assert prompt is not None
    assert (prompt.name, prompt.version) == ("kept", 2)


def test_what_was_found_for_one_caller_and_snapshot_says_nothing_of_another() -> None:
    lawyer = caller("lawyer")
    without = SNAPSHOT.model_copy(update={"models": (model("free"),), "role_bound": ()})
    for _ in range(2):  # the second time from what is known
        assert allowed_model(SNAPSHOT, lawyer, "kept") is SNAPSHOT.models[1]
        for other in (caller(), caller("lawyer", scopes=frozenset({"free"}))):
            assert allowed_model(SNAPSHOT, other, "kept") is None
        assert allowed_model(without, lawyer, "kept") is None
        assert allowed_model(without, lawyer, "free") is without.models[0]
