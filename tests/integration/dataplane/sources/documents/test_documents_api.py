"""/tp/v1/documents over real stores: the whole way from upload to deletion."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest

from tenantplane.dataplane.models.prices import bound_embedding
from tenantplane.dataplane.models.prompts import texts_size
from tests.fixtures.document_plane import (
    BUILTIN,
    EMBEDDING_PRICE,
    DocumentPlane,
    DocumentTenant,
    embedding_grant,
)
from tests.fixtures.pdf import pdf_of

HANDBOOK = """\
# Handbook

## Vacation

Each employee has thirty days of vacation a year, granted in January.

## Pay

Salaries are paid on the last working day of each month, in the local currency.

## Travel

Trains are booked in second class; flights need the approval of the team lead.
"""


async def handbook(tenant: DocumentTenant) -> dict[str, Any]:
    answer = await tenant.put("handbook.md", HANDBOOK, "text/markdown")
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("model", ["scripted", "builtin"])
@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
async def test_what_was_uploaded_is_found(
    document_plane: DocumentPlane, model: str, mode: str
) -> None:
    tenant = document_plane.tenant(BUILTIN if model == "builtin" else embedding_grant())
    put = await handbook(tenant)
    assert (put["name"], put["media_type"], put["chunks"]) == ("handbook.md", "text/markdown", 4)
    assert (put["bytes"], put["status"], put["user_id"]) == (len(HANDBOOK), "ready", "u1")
    answer = await tenant.search("vacation days", k=2, mode=mode)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["mode"], found["partial"]) == (mode, False)
    first = found["hits"][0]
    assert first["heading"] == "Handbook > Vacation"
    assert "thirty days of vacation" in first["text"]
    assert (first["document_id"], first["document_name"]) == (put["document_id"], "handbook.md")
    assert (first["vector_rank"], first["text_rank"]) == {
        "hybrid": (1, 1),
        "vector": (1, None),
        "text": (None, 1),
    }[mode]
    assert len(found["hits"]) == (1 if mode == "text" else 2)


async def test_each_kind_of_document_is_read(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant()
    kinds: dict[str, tuple[str | bytes, str]] = {
        "a.txt": ("The quarterly revenue was nine million.", "text/plain; charset=utf-8"),
        "b.html": ("<h1>Fire</h1><p>Leave by the stairs.</p>", "text/html"),
        "c.pdf": (pdf_of("The warranty lasts two years."), "application/pdf"),
    }
    for name, (content, kind) in kinds.items():
        assert (await tenant.put(name, content, kind)).status_code == 201
    for query, name in (("revenue", "a.txt"), ("stairs", "b.html"), ("warranty", "c.pdf")):
        hits = (await tenant.search(query, k=1)).json()["hits"]
        assert [hit["document_name"] for hit in hits] == [name]


async def test_a_form_with_a_file(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant()
    answer = await tenant.http.post(
        "/tp/v1/documents", files={"file": ("notes.md", b"# Notes\nMilk.", "text/markdown")}
    )
    assert (answer.status_code, answer.json()["name"]) == (201, "notes.md")
    named = await tenant.http.post(
        "/tp/v1/documents",
        data={"name": "other.md"},
        files={"file": ("notes.md", b"# Notes\nMilk.")},
    )
    assert (named.status_code, named.json()["name"]) == (201, "other.md")


async def test_a_document_of_the_same_name_is_replaced(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant()
    first = await handbook(tenant)
    again = (await tenant.put("handbook.md", "Only one rule is left: be kind.")).json()
    assert again["document_id"] == first["document_id"]
    assert again["sha256"] != first["sha256"]
    texts = [hit["text"] for hit in (await tenant.search("vacation rule", k=50)).json()["hits"]]
    assert texts == ["Only one rule is left: be kind."]


async def test_the_list_is_paged(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant(BUILTIN)
    ids = [(await tenant.put(f"{n}.txt", f"number {n}")).json()["document_id"] for n in range(5)]
    seen: list[str] = []
    params: dict[str, str] = {"limit": "2"}
    for _ in range(3):
        page = (await tenant.http.get("/tp/v1/documents", params=params)).json()
        seen += [item["document_id"] for item in page["items"]]
        params["after"] = page["next"] or ""
    assert (seen, page["next"]) == (ids, None)
    one = await tenant.http.get(f"/tp/v1/documents/{ids[3]}")
    assert (one.status_code, one.json()["name"]) == (200, "3.txt")


@pytest.mark.fault("F24")
@pytest.mark.req("R4")
async def test_another_orgs_documents_are_not_there(document_plane: DocumentPlane) -> None:
    victim, intruder = document_plane.tenant(), document_plane.tenant()
    secret = await handbook(victim)
    never = "019ab000-0000-7000-8000-000000000000"
    for method in ("GET", "DELETE"):
        answers = [
            await intruder.http.request(method, f"/tp/v1/documents/{identifier}")
            for identifier in (secret["document_id"], never)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        told = [
            answer.text.replace(identifier, "<id>")
            for answer, identifier in zip(answers, (secret["document_id"], never), strict=True)
        ]
        assert told[0] == told[1]
    for mode in ("hybrid", "vector", "text"):
        found = await intruder.search("vacation days", k=50, mode=mode)
        assert found.json()["hits"] == []
    assert (await intruder.http.get("/tp/v1/documents")).json() == {"items": [], "next": None}
    # One of the same name is the intruder's own.
    await intruder.put("handbook.md", "mine")
    assert (await victim.search("vacation", k=1)).json()["hits"][0]["text"].startswith("## Vac")


async def test_whoever_has_not_the_data_source_is_refused(document_plane: DocumentPlane) -> None:
    refused = {
        "data_source_not_allowed": [
            document_plane.tenant(data_sources=()),
            document_plane.tenant(data_sources=("sql",)),
            document_plane.tenant(scopes=frozenset({"assistant-1"})),
        ],
    }
    some_id = "019ab000-0000-7000-8000-000000000000"
    for code, tenants in refused.items():
        for tenant in tenants:
            answers = [
                await tenant.put("a.txt", "text"),
                await tenant.search("text"),
                await tenant.search("text", mode="text"),
                await tenant.http.get("/tp/v1/documents"),
                await tenant.http.get(f"/tp/v1/documents/{some_id}"),
                await tenant.http.delete(f"/tp/v1/documents/{some_id}"),
            ]
            assert [(a.status_code, a.json()["code"]) for a in answers] == [(403, code)] * 6
            assert all("x-tenantplane-run-id" not in a.headers for a in answers)
            assert await document_plane.agents.outcomes(tenant.under_test) == []
    allowed = document_plane.tenant(scopes=frozenset({"documents"}))
    assert (await allowed.put("a.txt", "text")).status_code == 201


async def test_only_embedding_models_of_the_list_embed(document_plane: DocumentPlane) -> None:
    without = document_plane.tenant(models=document_plane.agents.tenant().snapshot.models)
    both = document_plane.tenant(embedding_grant(), BUILTIN)
    for answer in (
        await without.put("a.txt", "text"),
        await without.search("text"),
        await both.put("a.txt", "text", embedding_model="assistant-1"),  # a chat model
        await both.search("text", embedding_model="gpt-9"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "embedding_model_not_allowed")
    # Words are found without a model.
    assert (await without.search("text", mode="text")).json()["hits"] == []
    put = await both.put("a.txt", "text", embedding_model="lexical")
    assert put.status_code == 201
    assert (await both.search("text", embedding_model="lexical")).json()["partial"] is False


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"PK\x03\x04", "application/zip", 415, "unsupported_media_type"),
        (b"%PDF-1.7", "text/plain", 415, "unsupported_media_type"),
        (b"no pdf", "application/pdf", 415, "unsupported_media_type"),
        (b"%PDF-1.7 broken", "application/pdf", 422, "document_broken"),
        (b"", "text/plain", 422, "document_empty"),
        (b"\xff\xfa", "text/plain", 422, "encoding_not_supported"),
        (b"x" * 300_000, "text/plain", 400, "body_too_large"),
        (b"--x--", "multipart/form-data; boundary=x", 400, "invalid_input"),
        (b"--x\r\ncut", "multipart/form-data; boundary=x", 400, "invalid_input"),
        (b"--x\r\nno header\r\n\r\n", "multipart/form-data; boundary=x", 400, "broken_form"),
        (b"", "multipart/form-data", 400, "broken_form"),
    ],
    ids=[f"upload-{number}" for number in range(11)],
)
async def test_what_is_no_document_is_a_problem_that_says_what_to_do(
    document_plane: DocumentPlane, content: bytes, media_type: str, status: int, code: str
) -> None:
    tenant = document_plane.tenant(BUILTIN)
    answer = await tenant.put("a.txt", content, media_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await tenant.http.get("/tp/v1/documents")).json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": " \n"},
        {"query": "a\x00b"},
        {"query": "a" * 4_001},
        {"query": "a", "k": 0},
        {"query": "a", "k": 51},
        {"query": "a", "mode": "magic"},
        {"query": "a", "org_id": "other"},
    ],
    ids=[f"search-{number}" for number in range(9)],
)
async def test_a_malformed_search_is_a_problem(
    document_plane: DocumentPlane, body: dict[str, Any]
) -> None:
    answer = await document_plane.tenant(BUILTIN).http.post("/tp/v1/documents/search", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert answer.json()["errors"]


async def test_uploads_and_searches_are_metered_and_recorded(
    document_plane: DocumentPlane,
) -> None:
    tenant = document_plane.tenant()
    put = await tenant.put("handbook.md", HANDBOOK, "text/markdown")
    outcomes = await document_plane.agents.outcomes(tenant.under_test)
    assert len(outcomes) == 2  # one batch of four texts, then the upload's own
    embedded = next(outcome for outcome in outcomes if outcome["cost_nanousd"])
    assert embedded["cost_nanousd"] == embedded["input_tokens"] * EMBEDDING_PRICE
    assert put.headers["x-tenantplane-cost-nanousd"] == str(embedded["cost_nanousd"])
    ids = put.headers["x-tenantplane-audit-records"].split(",")
    records = [await document_plane.agents.record(tenant.under_test, i) for i in ids]
    told = [record.model_dump_json() for record in records]
    assert "documents_upload" in told[0]
    assert put.json()["document_id"] in told[0]
    assert all(put.json()["sha256"] in text for text in told)
    # What the document says is in none of them: a record outlives the document.
    assert not any("thirty" in text or "vacation" in text.lower() for text in told)
    search = await tenant.search("vacation days")
    spend = await document_plane.agents.spend(tenant.under_test)
    costs = [int(a.headers["x-tenantplane-cost-nanousd"]) for a in (put, search)]
    assert spend.settled_nanousd == sum(costs) > costs[0] > 0
    assert spend.held_nanousd == 0


async def test_a_refused_document_is_recorded_too(document_plane: DocumentPlane) -> None:
    tenant = document_plane.tenant()
    answer = await tenant.put("a.pdf", b"%PDF-1.7 broken", "application/pdf")
    (record_id,) = answer.headers["x-tenantplane-audit-records"].split(",")
    record = await document_plane.agents.record(tenant.under_test, record_id)
    assert "document_broken" in record.model_dump_json()


@pytest.mark.parametrize("fault", ["embedding-short", "embedding-nan", "embedding-zero", "500"])
async def test_a_provider_that_fails_leaves_no_half_a_document(
    document_plane: DocumentPlane, fault: str
) -> None:
    tenant = document_plane.tenant()
    # The fault is in the second of three batches.
    paragraphs = [f"Paragraph {n}. {'word ' * 30}" for n in range(12)]
    paragraphs[5] += f"[[fault:{fault}]]"
    answer = await tenant.put("a.txt", "\n\n".join(paragraphs))
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] in {"provider_broken_answer", "provider_unavailable"}
    assert (await tenant.http.get("/tp/v1/documents")).json()["items"] == []
    assert (await tenant.search("word", mode="text")).json()["hits"] == []
    outcomes = await document_plane.agents.outcomes(tenant.under_test)
    estimated = [outcome for outcome in outcomes if outcome["stage"] == "estimated"]
    # A broken answer may be billed, a refusal is not.
    assert len(estimated) == (0 if fault == "500" else 1)
    assert (await document_plane.agents.spend(tenant.under_test)).held_nanousd == 0


async def test_vectors_that_come_in_another_order_are_put_right(
    document_plane: DocumentPlane,
) -> None:
    tenant = document_plane.tenant()
    document_plane.agents.model.app.faults.append("embedding-shuffled")
    await handbook(tenant)
    first = (await tenant.search("salaries paid month", mode="vector", k=1)).json()["hits"][0]
    assert first["heading"] == "Handbook > Pay"


async def test_a_usage_that_is_not_told_is_counted_and_never_free(
    document_plane: DocumentPlane,
) -> None:
    for fault in ("embedding-usage-none", "embedding-usage-negative"):
        tenant = document_plane.tenant()
        document_plane.agents.model.app.faults.append(fault)
        answer = await tenant.put("a.txt", "short text")
        size = texts_size(["short text"], None, embedding_grant().context_tokens)
        worst = bound_embedding(embedding_grant(), size).worst_case_nanousd
        assert answer.headers["x-tenantplane-cost-nanousd"] == str(worst)


async def test_at_its_cap_an_org_uploads_nothing_and_deletes_what_it_likes(
    document_plane: DocumentPlane,
) -> None:
    tenant = document_plane.tenant()
    put = await handbook(tenant)
    spent = (await document_plane.agents.spend(tenant.under_test)).settled_nanousd
    level = tenant.snapshot.levels[0].model_copy(update={"hard_cap_nanousd": spent + 100})
    tenant.change(levels=(level,))
    refused = await tenant.put("more.txt", "more text than the cap pays for")
    assert (refused.status_code, refused.json()["code"]) == (402, "hard_cap_reached")
    assert (await tenant.search("a question that costs")).status_code == 402
    # Words cost nothing, and neither does deletion.
    assert (await tenant.search("vacation", mode="text")).json()["hits"]
    assert (await tenant.http.delete(f"/tp/v1/documents/{put['document_id']}")).status_code == 204


async def test_uploads_of_several_orgs_at_once_stay_apart(document_plane: DocumentPlane) -> None:
    tenants = [document_plane.tenant(BUILTIN) for _ in range(4)]
    answers = await asyncio.gather(
        *(t.put("a.txt", f"the secret of {t.org_id}") for t in tenants for _ in range(2))
    )
    assert {answer.status_code for answer in answers} == {201}
    for tenant in tenants:
        hits = (await tenant.search("secret", k=10)).json()["hits"]
        assert [hit["text"] for hit in hits] == [f"the secret of {tenant.org_id}"]


async def test_a_client_that_leaves_in_mid_upload_leaves_nothing(
    document_plane: DocumentPlane,
) -> None:
    tenant = document_plane.tenant(BUILTIN)
    address = urlsplit(document_plane.base_url)
    assert address.hostname is not None
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        b"POST /tp/v1/documents?name=a.txt HTTP/1.1\r\nhost: plane\r\ncontent-length: 1000\r\n"
        b"content-type: text/plain\r\nauthorization: Bearer %s\r\n\r\nhalf" % tenant.key.encode()
    )
    await writer.drain()
    writer.write_eof()
    # The server closes, or says what it thinks of half a document; it keeps none.
    assert b" 201 " not in await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    assert (await tenant.http.get("/tp/v1/documents")).json()["items"] == []
    assert await document_plane.agents.outcomes(tenant.under_test) == []
