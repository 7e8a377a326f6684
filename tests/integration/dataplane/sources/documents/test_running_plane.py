"""Documents of a tenant whose plan grants them, through both planes as they run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.dataplane import bearer, until

if TYPE_CHECKING:  # a plugin that another one imports is not rewritten by pytest
    import httpx2

    from tests.fixtures.dataplane import Peers

PATH = "/tp/v1/documents"
CHAT_PRICE = {"inputUSDPerMillionTokens": "1", "outputUSDPerMillionTokens": "2"}


def embedding_offer(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "embedding",
        "provider": "builtin",
        "dimensions": 384,
        "inputUSDPerMillionTokens": "1",
    } | changed


async def plan_with(peers: Peers, *offers: dict[str, Any], **entitlements: Any) -> str:
    """A plan with documents, a chat model and these embedding models."""
    return await peers.control.plan(
        entitlements={
            "tools": ["documents"],
            "models": ["assistant-1", *(offer["name"] for offer in offers)],
            "dataSources": ["documents"],
        }
        | entitlements,
        prices={"models": [{"name": "assistant-1", **CHAT_PRICE}, *offers]},
    )


async def change_plan(peers: Peers, org_id: str, plan: str) -> None:
    spec = {"plan": plan, "region": peers.region}
    answer = await peers.control.put_tenant(org_id, spec)
    assert answer.status_code == 200, answer.text


async def put(peers: Peers, key: str, name: str, text: str) -> httpx2.Response:
    return await peers.data.http.post(
        PATH,
        params={"name": name},
        content=text,
        headers=bearer(key) | {"content-type": "text/plain"},
    )


async def search(peers: Peers, key: str, **body: Any) -> httpx2.Response:
    return await peers.data.http.post(PATH + "/search", json=body, headers=bearer(key))


@pytest.mark.req("R4", "R6")
@pytest.mark.fault("F24")
async def test_each_finds_its_own_whatever_it_asks_for(data_plane: Peers) -> None:
    plan = await plan_with(data_plane, embedding_offer("lexical"))
    (acme, acme_key), (globex, globex_key) = [await data_plane.tenant(plan) for _ in range(2)]
    for org_id, key in ((acme, acme_key), (globex, globex_key)):
        answer = await put(data_plane, key, "merger.txt", f"The merger of {org_id} closes in May.")
        assert answer.status_code == 201, answer.text
    for org_id, key in ((acme, acme_key), (globex, globex_key)):
        for mode in ("hybrid", "vector", "text"):
            found = await search(data_plane, key, query="merger closes in May", k=50, mode=mode)
            texts = [hit["text"] for hit in found.json()["hits"]]
            assert texts == [f"The merger of {org_id} closes in May."]


async def test_an_agent_answers_from_them_and_a_plan_that_takes_them_away_does(
    data_plane: Peers,
) -> None:
    offer = embedding_offer("lexical")
    org_id, key = await data_plane.tenant(await plan_with(data_plane, offer))
    assert (await put(data_plane, key, "safe.txt", "The safe opens with 4711.")).status_code == 201
    cue = f"[[call:documents_search {json.dumps({'query': 'safe'})}]]"
    answer = await data_plane.data.chat(key, cue, model="agent/assistant-1")
    said = answer.json()["choices"][0]["message"]["content"]
    assert "Source: safe.txt" in said
    assert "4711" in said
    # Model, tool, the embedding within it, model: each is recorded.
    assert len(answer.headers["x-tenantplane-audit-records"].split(",")) == 4
    without = await plan_with(data_plane, offer, dataSources=[])
    await change_plan(data_plane, org_id, without)

    async def asked() -> int:
        return (await search(data_plane, key, query="safe")).status_code

    await until(asked, lambda status: status == 403)
    answer = await data_plane.data.chat(key, cue, model="agent/assistant-1")
    assert "4711" not in answer.text


async def test_a_plan_with_another_model_has_the_documents_embedded_anew(
    data_plane: Peers,
) -> None:
    org_id, key = await data_plane.tenant(await plan_with(data_plane, embedding_offer("lexical")))
    assert (await put(data_plane, key, "a.txt", "thirty days of leave")).status_code == 201
    other = await plan_with(
        data_plane, embedding_offer("semantic", provider="default", upstreamModel="semantic-1")
    )
    await change_plan(data_plane, org_id, other)

    async def found() -> Any:
        # By the new model's name: until its snapshot is in force it is not on the list.
        answer = await search(
            data_plane, key, query="days of leave", mode="vector", embedding_model="semantic"
        )
        return answer.status_code == 200 and answer.json()

    body = await until(found, lambda body: bool(body and body["hits"]), 20)
    assert body["partial"] is False
    listed = await data_plane.data.get(PATH, key)
    assert [item["status"] for item in listed.json()["items"]] == ["ready"]
