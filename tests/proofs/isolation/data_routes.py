"""What each route of the data plane gives to a tenant that reaches for another: a new route has its
case here, or CI fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from tests.fixtures.isolation import AGENT, Tenant
from tests.proofs.isolation.routes import Attack, Route, Told, told

WHERE: Final = "DATA_ROUTES of tests/proofs/isolation/data_routes.py"

Case = Callable[[Route, Attack], Awaitable[int]]
_CHAT: Final = "/v1/chat/completions"


async def refuses_strangers(route: Route, attack: Attack) -> int:
    """Every route behind the gate: no credential of another sort gets in, and no header field
    makes one tenant another (F9)."""
    method, path = route
    path = _filled(path, attack.victim)
    strangers = {
        None: 401,
        "garbage": 401,
        attack.plane_token: 401,
        attack.tenants.peers.control.platform_key: 401,
    }
    for bearer, status in strangers.items():
        answer = told(await attack.ask_data(method, path, bearer), _named(attack.victim))
        assert answer.status == status, answer
        attack.require_silence(answer)
    cases = len(strangers)
    for credential in attack.credentials().values():
        for field in ("tenantplane-org", "x-org-id"):
            answers = []
            for aim in attack.aims:
                request: dict[str, Any] = {"headers": {field: aim.org_id}}
                given = await attack.ask_data(method, path, credential, **request)
                answers.append(told(given, [aim.org_id]))
            assert answers[0].status == 403
            assert answers[0] == answers[1]
            cases += 2
    return cases


async def open_to_all(route: Route, attack: Attack) -> int:
    bearers = (None, attack.intruder.api_key, "garbage")
    for bearer in bearers:
        answer = told(await attack.ask_data(*route, bearer))
        assert answer.status == 200
        attack.require_silence(answer)
    return len(bearers)


async def _chat(route: Route, attack: Attack) -> int:
    """Another's thread is unknown, plain and streaming; so is its private model."""
    cases = await refuses_strangers(route, attack)
    for streaming in (False, True):
        threads = await _answers(attack, partial(_thread_body, stream=streaming), "thread_id")
        models = await _answers(attack, partial(_model_body, stream=streaming), "model")
        agents = await _answers(attack, partial(_agent_body, stream=streaming), "model")
        assert {told.status for told in threads + models + agents} == {404}
        assert {told.body["error"]["code"] for told in threads} == {"thread_not_found"}
        assert {told.body["error"]["code"] for told in models + agents} == {"model_not_found"}
        cases += len(threads) + len(models) + len(agents)
    # The stored form of the thread's id, which begins with the org, opens it neither.
    stored = f"{attack.victim.org_id}::{attack.victim.thread_id}"
    body = _body(AGENT, False) | {"metadata": {"thread_id": stored}}
    answer = await attack.ask_data("POST", _CHAT, attack.intruder.api_key, json=body)
    assert answer.status_code == 404, answer.text
    # Its own thread and model do work: these requests were good but for whom they named.
    own = await attack.ask_data(
        "POST", _CHAT, attack.intruder.api_key, json=_thread_body(attack.intruder, False)
    )
    assert own.status_code == 200, own.text
    assert attack.victim.org_id not in own.text
    return cases + 2


async def _answers(
    attack: Attack, body: Callable[[Tenant], dict[str, Any]], named: str
) -> list[Told]:
    """Of both credentials to both aims; what they tell must not depend on the aim."""
    found = []
    for credential in attack.credentials().values():
        both = [
            told(
                await attack.ask_data("POST", _CHAT, credential, json=body(aim)),
                [getattr(aim, named)],
            )
            for aim in attack.aims
        ]
        assert both[0] == both[1]
        attack.require_silence(both[0])
        found += both
    return found


def _body(model: str, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": "What did I note?"}]
    return {"model": model, "messages": messages, "stream": stream}


def _thread_body(aim: Tenant, stream: bool) -> dict[str, Any]:
    return _body(AGENT, stream) | {"metadata": {"thread_id": aim.thread_id}}


def _model_body(aim: Tenant, stream: bool) -> dict[str, Any]:
    return _body(aim.model, stream)


def _agent_body(aim: Tenant, stream: bool) -> dict[str, Any]:
    return _body(f"agent/{aim.model}", stream)


def names_nothing(mine: Callable[[Tenant], str]) -> Case:
    """The credential alone says whose answer it is: one's own is in it, the other's is not."""

    async def case(route: Route, attack: Attack) -> int:
        cases = await refuses_strangers(route, attack)
        for credential in attack.credentials().values():
            answer = told(await attack.ask_data(*route, credential))
            assert answer.status == 200, answer
            assert mine(attack.intruder) in answer.text
            attack.require_silence(answer)
            # Nor does a word in the query.
            for name in ("org_id", "org", "root_org_id", "user_id"):
                again = await attack.ask_data(
                    *route, credential, params={name: attack.victim.org_id}
                )
                attack.require_silence(told(again))
            cases += 5
        return cases

    return case


def names_by_path(own: int = 200) -> Case:
    """The victim's id is answered as one that never was."""

    async def case(route: Route, attack: Attack) -> int:
        method, path = route
        cases = await refuses_strangers(route, attack)
        for credential in attack.credentials().values():
            answers = [
                told(
                    await attack.ask_data(method, _filled(path, aim), credential),
                    _named(aim),
                )
                for aim in attack.aims
            ]
            assert answers[0].status == 404
            assert answers[0] == answers[1]
            attack.require_silence(answers[0])
            cases += 2
        mine = await attack.ask_data(
            method, _filled(path, attack.intruder), attack.intruder.api_key
        )
        assert mine.status_code == own, mine.text
        return cases + 1

    return case


async def _records_of_a_run(route: Route, attack: Attack) -> int:
    cases = await refuses_strangers(route, attack)
    for credential in attack.credentials().values():
        answers = [
            told(
                await attack.ask_data(*route, credential, params={"run_id": aim.run_id}),
                [aim.run_id],
            )
            for aim in attack.aims
        ]
        assert (answers[0].status, answers[0].body) == (200, {"items": []})
        assert answers[0] == answers[1]
        cases += 2
    mine = await attack.ask_data(
        *route, attack.intruder.api_key, params={"run_id": attack.intruder.run_id}
    )
    assert mine.json()["items"], "the intruder's own run has no records: nothing is proved"
    return cases + 1


async def _embeddings(route: Route, attack: Attack) -> int:
    """The victim's private model is answered as one that never was; one's own embeds."""
    cases = await refuses_strangers(route, attack)
    for credential in attack.credentials().values():
        answers = [
            told(
                await attack.ask_data(
                    *route, credential, json={"model": aim.model, "input": "text"}
                ),
                [aim.model],
            )
            for aim in attack.aims
        ]
        assert (answers[0].status, answers[0].body["error"]["code"]) == (404, "model_not_found")
        assert answers[0] == answers[1]
        attack.require_silence(answers[0])
        cases += 2
    own = await attack.ask_data(
        *route, attack.intruder.api_key, json={"model": "lexical", "input": "text"}
    )
    assert own.status_code == 200, own.text
    attack.require_silence(told(own))
    return cases + 1


async def _upload(route: Route, attack: Attack) -> int:
    """A document of the victim's name becomes the intruder's own; the victim's stays as it is. Of
    the victim's private model no more is told than of one that never was."""
    cases = await refuses_strangers(route, attack)
    for credential in attack.credentials().values():
        answers = []
        for aim in attack.aims:
            given = await attack.ask_data(
                *route,
                credential,
                params={"name": "a.txt", "embedding_model": aim.model},
                content="text",
                headers={"content-type": "text/plain"},
            )
            answers.append(told(given, [aim.model]))
        assert answers[0].status == 403
        assert answers[0] == answers[1]
        attack.require_silence(answers[0])
        own = await attack.ask_data(
            *route,
            credential,
            params={"name": "safe.txt", "org_id": attack.victim.org_id},
            content="no secret of the intruder's",
            headers={"content-type": "text/plain"},
        )
        assert own.status_code == 201, own.text
        assert own.json()["document_id"] == attack.intruder.document_id
        attack.require_silence(told(own))
        cases += 3
    return cases


async def _document_search(route: Route, attack: Attack) -> int:
    """Whatever is asked for, and however: passages of one's own alone (F24)."""
    cases = await refuses_strangers(route, attack)
    asked = [
        f"combination of the safe of {attack.victim.org_id}",
        attack.victim.document_id,
        "4711",
    ]
    for credential in attack.credentials().values():
        for query in asked:
            for mode in ("hybrid", "vector", "text"):
                body = {"query": query, "mode": mode, "k": 50}
                answer = await attack.ask_data(*route, credential, json=body)
                assert answer.status_code == 200, answer.text
                ids = {hit["document_id"] for hit in answer.json()["hits"]}
                assert ids <= {attack.intruder.document_id}
                attack.require_silence(told(answer))
                cases += 1
        # No field of the body, and no word in the query, names another org.
        body = {"query": "safe", "org_id": attack.victim.org_id}
        refused = await attack.ask_data(*route, credential, json=body)
        assert refused.status_code == 400
        params = {"org_id": attack.victim.org_id}
        found = await attack.ask_data(*route, credential, json={"query": "safe"}, params=params)
        assert found.json()["hits"], "the intruder finds nothing of its own: nothing is proved"
        attack.require_silence(told(found))
        cases += 2
    return cases


async def _document_deletion(route: Route, attack: Attack) -> int:
    """The victim's document is answered as one that never was, and its own is deleted."""
    method, path = route
    cases = await refuses_strangers(route, attack)
    for credential in attack.credentials().values():
        answers = [
            told(await attack.ask_data(method, _filled(path, aim), credential), _named(aim))
            for aim in attack.aims
        ]
        assert answers[0].status == 404
        assert answers[0] == answers[1]
        attack.require_silence(answers[0])
        put = await attack.ask_data(
            "POST",
            "/tp/v1/documents",
            credential,
            params={"name": "deleted.txt"},
            content="text",
            headers={"content-type": "text/plain"},
        )
        own = path.format(document_id=put.json()["document_id"])
        assert (await attack.ask_data(method, own, credential)).status_code == 204
        assert (await attack.ask_data(method, own, credential)).status_code == 404
        cases += 3
    return cases


def _named(aim: Tenant) -> tuple[str, ...]:
    return aim.model, aim.record_id, aim.document_id


def _filled(path: str, aim: Tenant) -> str:
    return path.format(name=aim.model, record_id=aim.record_id, document_id=aim.document_id)


DATA_ROUTES: Final[dict[Route, Case]] = {
    ("GET", "/healthz"): open_to_all,
    ("GET", "/readyz"): open_to_all,
    ("POST", "/v1/chat/completions"): _chat,
    ("POST", "/v1/embeddings"): _embeddings,
    ("GET", "/v1/models"): names_nothing(lambda tenant: tenant.model),
    ("GET", "/v1/models/{name}"): names_by_path(),
    ("GET", "/tp/v1/limits"): names_nothing(lambda tenant: tenant.org_id),
    ("GET", "/tp/v1/spend"): names_nothing(lambda tenant: tenant.org_id),
    ("GET", "/tp/v1/audit-records"): _records_of_a_run,
    ("GET", "/tp/v1/audit-records/{record_id}"): names_by_path(),
    ("POST", "/tp/v1/documents"): _upload,
    ("GET", "/tp/v1/documents"): names_nothing(lambda tenant: tenant.document_id),
    ("POST", "/tp/v1/documents/search"): _document_search,
    ("GET", "/tp/v1/documents/{document_id}"): names_by_path(),
    ("DELETE", "/tp/v1/documents/{document_id}"): _document_deletion,
}
