"""Documents follow the org's embedding model, within its caps, whatever dies on the way."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.errors import Suspended
from tenantplane.dataplane.sources.documents.embedding import space_of
from tenantplane.dataplane.sources.documents.re_embedding import ReEmbedder
from tests.fixtures.document_plane import (
    BUILTIN,
    SETTINGS,
    DocumentPlane,
    DocumentTenant,
    embedding_grant,
)
from tests.fixtures.runtime import until


class KnownOrgs:
    """Stands where the plane's entitlements do."""

    def __init__(self, *tenants: DocumentTenant) -> None:
        self._tenants = {tenant.org_id: tenant for tenant in tenants}
        self.suspended = False

    def versions(self) -> dict[str, int]:
        return {org_id: t.snapshot.version for org_id, t in self._tenants.items()}

    def current(self, org_id: str) -> Snapshot:
        if self.suspended:
            raise Suspended("suspended")
        return self._tenants[org_id].snapshot


def re_embedder(
    plane: DocumentPlane, orgs: KnownOrgs, later: timedelta = timedelta()
) -> ReEmbedder:
    def now() -> datetime:
        return plane.agents.database.clock.now() + later

    return ReEmbedder(orgs, plane.agents.meter, plane.agents.providers, SETTINGS, now=now)


def use(tenant: DocumentTenant, *grants: Any) -> None:
    chat = [grant for grant in tenant.snapshot.models if grant.kind == "chat"]
    tenant.change(models=(*chat, *grants))


async def library_of(plane: DocumentPlane, *grants: Any) -> DocumentTenant:
    """An org with two documents, embedded by the first grant."""
    tenant = plane.tenant(*grants)
    for name, text in (("pay.txt", "salaries at the month's end"), ("leave.txt", "thirty days")):
        assert (await tenant.put(name, text)).status_code == 201
    return tenant


async def statuses(tenant: DocumentTenant) -> list[str]:
    items = (await tenant.http.get("/tp/v1/documents")).json()["items"]
    return [item["status"] for item in items]


async def test_a_new_model_embeds_what_another_one_did(document_plane: DocumentPlane) -> None:
    tenant = await library_of(document_plane, BUILTIN)
    before = (await tenant.search("salaries", mode="vector", k=1)).json()
    use(tenant, embedding_grant("new-embedder"))
    assert await statuses(tenant) == ["stale", "stale"]
    # Meanwhile documents are found by their words, and the answer says so.
    meanwhile = (await tenant.search("salaries")).json()
    assert meanwhile["partial"] is True
    assert [hit["document_name"] for hit in meanwhile["hits"]] == ["pay.txt"]
    assert meanwhile["hits"][0]["vector_rank"] is None
    assert (await tenant.search("salaries", mode="vector")).json()["hits"] == []
    job = re_embedder(document_plane, KnownOrgs(tenant))
    spent = (await document_plane.agents.spend(tenant.under_test)).settled_nanousd
    assert await job.round() == 2
    assert await statuses(tenant) == ["ready", "ready"]
    after = (await tenant.search("salaries", mode="vector", k=1)).json()
    assert after["partial"] is False
    assert [hit["text"] for hit in after["hits"]] == [hit["text"] for hit in before["hits"]]
    # It was paid for, by its org, and is not done again.
    assert (await document_plane.agents.spend(tenant.under_test)).settled_nanousd > spent
    calls = len(document_plane.agents.model.app.calls)
    assert await job.round() == 0
    assert await re_embedder(document_plane, KnownOrgs(tenant)).round() == 0
    assert len(document_plane.agents.model.app.calls) == calls


async def test_the_same_name_for_another_model_is_another_space(
    document_plane: DocumentPlane,
) -> None:
    tenant = await library_of(document_plane, embedding_grant())
    use(tenant, embedding_grant(upstream_model="the-next-generation"))
    assert await statuses(tenant) == ["stale", "stale"]
    # And another name for the same one is not.
    use(tenant, embedding_grant("renamed", upstream_model="embedder"))
    assert await statuses(tenant) == ["ready", "ready"]
    assert await re_embedder(document_plane, KnownOrgs(tenant)).round() == 0


async def test_at_its_cap_an_org_waits_and_the_others_go_on(
    document_plane: DocumentPlane,
) -> None:
    poor = await library_of(document_plane, BUILTIN)
    rich = await library_of(document_plane, BUILTIN)
    spent = (await document_plane.agents.spend(poor.under_test)).settled_nanousd
    (level,) = poor.snapshot.levels
    poor.change(levels=(level.model_copy(update={"hard_cap_nanousd": spent + 10}),))
    for tenant in (poor, rich):
        use(tenant, embedding_grant("new-embedder"))
    orgs = KnownOrgs(poor, rich)
    job = re_embedder(document_plane, orgs)
    assert await job.round() == 2
    assert (await statuses(poor), await statuses(rich)) == (["stale"] * 2, ["ready"] * 2)
    assert (await poor.search("salaries", mode="text")).json()["hits"]
    raised = level.model_copy(update={"hard_cap_nanousd": 10_000_000_000})
    poor.change(levels=(raised,))
    assert await job.round() == 2
    assert await statuses(poor) == ["ready", "ready"]


async def test_a_suspended_org_is_left_alone(document_plane: DocumentPlane) -> None:
    tenant = await library_of(document_plane, BUILTIN)
    use(tenant, embedding_grant("new-embedder"))
    orgs = KnownOrgs(tenant)
    orgs.suspended = True
    assert await re_embedder(document_plane, orgs).round() == 0
    assert await statuses(tenant) == ["stale", "stale"]


async def test_without_the_data_source_nothing_is_embedded(document_plane: DocumentPlane) -> None:
    tenant = await library_of(document_plane, BUILTIN)
    use(tenant, embedding_grant("new-embedder"))
    tenant.change(data_sources=())
    assert await re_embedder(document_plane, KnownOrgs(tenant)).round() == 0


async def test_whoever_dies_in_mid_document_changes_nothing_and_is_followed(
    document_plane: DocumentPlane,
) -> None:
    tenant = await library_of(document_plane, BUILTIN)
    use(tenant, embedding_grant("new-embedder"))
    orgs = KnownOrgs(tenant)
    model = document_plane.agents.model.app
    calls = len(model.calls)
    model.faults.append("hang")
    dying = asyncio.create_task(re_embedder(document_plane, orgs).round())

    async def is_asked() -> bool:
        return len(model.calls) > calls

    await until(is_asked)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await statuses(tenant) == ["stale", "stale"]
    # Another replica does not pay for the same document beside one that may still be at it …
    assert await re_embedder(document_plane, orgs).round() == 1
    assert sorted(await statuses(tenant)) == ["ready", "stale"]
    # … and takes it up when its time is over.
    assert await re_embedder(document_plane, orgs, timedelta(hours=1)).round() == 1
    assert await statuses(tenant) == ["ready", "ready"]


async def test_two_replicas_at_once_pay_once(document_plane: DocumentPlane) -> None:
    tenant = await library_of(document_plane, BUILTIN)
    use(tenant, embedding_grant("new-embedder"))
    calls = len(document_plane.agents.model.app.calls)
    jobs = [re_embedder(document_plane, KnownOrgs(tenant)) for _ in range(2)]
    done = await asyncio.gather(*(job.round() for job in jobs))
    assert sum(done) == 2
    assert await statuses(tenant) == ["ready", "ready"]
    assert len(document_plane.agents.model.app.calls) == calls + 2


async def test_what_a_provider_refuses_is_left_and_keeps_nobody_else(
    document_plane: DocumentPlane,
) -> None:
    tenant = await library_of(document_plane, BUILTIN)
    await tenant.put("poison.txt", "[[fault:400]] refused by the provider")
    await tenant.put("zebra.txt", "comes after it")
    use(tenant, embedding_grant("new-embedder"))
    job = re_embedder(document_plane, KnownOrgs(tenant))
    assert await job.round() == 3
    assert sorted(await statuses(tenant)) == ["ready", "ready", "ready", "stale"]
    calls = len(document_plane.agents.model.app.calls)
    assert await job.round() == 0
    assert len(document_plane.agents.model.app.calls) == calls  # it is not asked again


async def test_a_document_that_changes_meanwhile_is_not_overwritten(
    document_plane: DocumentPlane,
) -> None:
    tenant = await library_of(document_plane, BUILTIN)
    use(tenant, embedding_grant("new-embedder"))
    library = document_plane.documents.library(tenant.context)
    (grant,) = [grant for grant in tenant.snapshot.models if grant.kind == "embedding"]
    space = space_of(grant, document_plane.agents.providers)
    stale = (await library.stale(space, 10))[0]
    await tenant.put(stale.document.name, "a newer text")
    vectors = [[1.0] + [0.0] * 383 for _ in stale.texts]
    assert not await library.re_embed(
        stale.document.document_id, space, vectors, of_version=stale.version
    )
    hits = (await tenant.search("newer", mode="vector", k=1)).json()["hits"]
    assert hits[0]["text"] == "a newer text"


async def test_other_dimensions_are_another_space(document_plane: DocumentPlane) -> None:
    tenant = await library_of(document_plane, BUILTIN)
    use(tenant, BUILTIN.model_copy(update={"dimensions": 128}))
    assert await statuses(tenant) == ["stale", "stale"]
    assert await re_embedder(document_plane, KnownOrgs(tenant)).round() == 2
    hits = (await tenant.search("salaries", mode="vector", k=1)).json()["hits"]
    assert hits[0]["document_name"] == "pay.txt"
