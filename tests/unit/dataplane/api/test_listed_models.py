"""Models that an org, or the scopes of a key, do not name: neither listed nor called."""

from __future__ import annotations

import json
from typing import cast

import pytest

from tenantplane.core.apis.snapshot import ModelGrant, Snapshot
from tenantplane.core.errors import NotFound
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.api.chat_bodies import model_list
from tenantplane.dataplane.api.openai import _grant
from tenantplane.dataplane.gate.request import RequestTenant
from tenantplane.dataplane.models.chat import ChatRequest, parse_chat_request
from tests.unit.dataplane.api.test_embeddings import SNAPSHOT, grant


def tenant(*scopes: str, snapshot: Snapshot = SNAPSHOT) -> RequestTenant:
    within = frozenset(scopes) if scopes else None
    context = TenantContext("acme", "acme", "key:k", "u", "pro", "local", scopes=within)
    return RequestTenant(context, snapshot, lambda: snapshot)


def named(*models: ModelGrant) -> Snapshot:
    return SNAPSHOT.model_copy(update={"models": models})


def asked(model: str) -> ChatRequest:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    return parse_chat_request(json.dumps(body).encode())


def ids(of: RequestTenant) -> set[str]:
    return {cast("str", model["id"]) for model in model_list(of.snapshot, of.context)}


def test_what_is_on_both_lists_is_listed_and_called() -> None:
    for of in (tenant(), tenant("assistant-1", "embedder")):
        assert ids(of) == {"assistant-1", "agent/assistant-1", "embedder"}
        for model in ("assistant-1", "agent/assistant-1"):
            assert _grant(of, asked(model)).name == "assistant-1"


def test_scopes_narrow_the_list() -> None:
    assert ids(tenant("embedder")) == {"embedder"}
    assert ids(tenant("clock")) == set()


@pytest.mark.parametrize("model", ["assistant-1", "agent/assistant-1"])
def test_a_key_without_the_model_in_its_scopes_does_not_call_it(model: str) -> None:
    with pytest.raises(NotFound) as refused:
        _grant(tenant("embedder"), asked(model))
    assert refused.value.error_code == "model_not_found"


def test_what_is_no_model_of_the_org_is_not_there() -> None:
    of = tenant(snapshot=named(grant("private", "chat")))
    assert ids(of) == {"private", "agent/private"}
    with pytest.raises(NotFound):
        _grant(of, asked("assistant-1"))
    with pytest.raises(NotFound):
        _grant(tenant(), asked("embedder"))
