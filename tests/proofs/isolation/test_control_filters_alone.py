"""The filters of the control plane's own statements, alone: its jobs see all orgs' rows, and here
its tenants' transactions do too. Whatever is done to one tree, the other's rows stay."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx2
import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from tenantplane.controlplane import jobs, services
from tenantplane.controlplane.app import create_app
from tenantplane.controlplane.planes import repository
from tenantplane.controlplane.planes.feed import ChangeFeed
from tenantplane.controlplane.registry import repository as registry
from tenantplane.controlplane.registry.catalogue import repository as catalogue
from tenantplane.controlplane.registry.limits import repository as raises
from tenantplane.controlplane.settings import ControlPlaneSettings
from tenantplane.controlplane.usage import repository as usage
from tenantplane.core.db import doctor
from tenantplane.core.db.doctor import Finding
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.pool import Database
from tenantplane.core.ids import new_api_key
from tests.fixtures.controlplane import MIGRATIONS, PLAN, usage_event
from tests.fixtures.models import serving
from tests.fixtures.postgres import ProvisionDatabase
from tests.fixtures.proofs import ProofCases

pytestmark = pytest.mark.proof

_OPEN: Final = "ALTER POLICY tenant ON {} USING (true) WITH CHECK (true)"
_TABLES: Final = (
    "admin_event",
    "api_key",
    "audit_commitment",
    "cap_raise",
    "issuer",
    "level_spend",
    "org",
    "org_entitlement",
    "org_role_bound",
    "plane_usage",
    "purged_org",
    "snapshot",
    "spend_alert",
    "usage_event",
)
# What is kept beside an org's events.
_SUMS: Final[dict[str, dict[str, Any]]] = {
    "level_spend": {"period": "day", "period_id": "2026-02-14", "events": 1, "nanousd": 4500},
    "plane_usage": {"events": 1, "nanousd": 4500},
    "spend_alert": {
        "period": "month",
        "period_id": "2026-02",
        "threshold_percent": 50,
        "cap_kind": "hard",
        "cap_nanousd": 9000,
        "spent_nanousd": 4500,
        "raised_at": "2026-02-14T12:00:00Z",
    },
}
_EMPTY: Final = ("audit_commitment", "purged_org")  # of a tree that nothing was done to


@dataclass
class Trees:
    """A running control plane, and the administrator's view of its database."""

    http: httpx2.AsyncClient
    database: Database  # the service's own
    plane: str
    administrator: psycopg.AsyncConnection[dict[str, Any]]
    plan: str
    region: str

    async def tree(self) -> str:
        """An umbrella with a child, each with rows in every table."""
        root = f"root-{secrets.token_hex(4)}"
        await self.put(root)
        await self.put(f"{root}-child", parent=root)
        for org_id in (root, f"{root}-child"):
            await self.ok("POST", f"/v1/tenants/{org_id}/keys", {"name": "n", "userId": "u"})
            await self.ok("POST", f"/v1/tenants/{org_id}/raises", {"extraUSD": "1"})
            await self.report(org_id, root)
        return root

    async def put(self, org_id: str, **spec: Any) -> Any:
        issuer = {"type": "oidc", "issuer": "http://127.0.0.1:9", "audience": f"for-{org_id}"}
        body = {
            "plan": self.plan,
            "region": self.region,
            "identity": {"issuers": [issuer]},
            "entitlements": {
                "tools": {"allow": ["search"]},
                "roleBound": [{"role": f"of-{org_id}", "tools": ["search"]}],
            },
            **spec,
        }
        return await self.ok("PUT", f"/v1/tenants/{org_id}", body)

    async def report(self, org_id: str, root: str) -> None:
        """As the org's plane would; laid down by the administrator."""
        row = usage_event(
            org_id,
            root_org_id=root,
            plane=self.plane,
            provider_excess=False,
            content_sha256="\\x00",
            received_at="2026-02-14T12:00:00Z",
        )
        await self.administrator.execute(
            "INSERT INTO controlplane.usage_event"
            " SELECT (jsonb_populate_record(NULL::controlplane.usage_event, %s)).*",
            (Jsonb(row),),
        )
        for table, columns in _SUMS.items():
            sums = {"org_id": org_id, "root_org_id": root, "plane": self.plane, **columns}
            await self.administrator.execute(
                f"INSERT INTO controlplane.{table}"
                f" SELECT (jsonb_populate_record(NULL::controlplane.{table}, %s)).*",
                (Jsonb(sums),),
            )

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    async def rows_of(self, root: str) -> dict[str, list[Any]]:
        found = {}
        for table in _TABLES:
            cursor = await self.administrator.execute(
                f"SELECT to_jsonb(t)::text AS row FROM controlplane.{table} t"
                " WHERE org_id = ANY(%s) ORDER BY 1",
                ([root, f"{root}-child"],),
            )
            found[table] = [row["row"] for row in await cursor.fetchall()]
        return found

    async def views_of(self, root: str) -> list[Any]:
        """What reads answer, alone for their own org."""
        views = []
        for org_id in (root, f"{root}-child"):
            for path in ("", "/keys", "/usage", "/alerts", "/raises", "/entitlements"):
                answer = await self.http.get(f"/v1/tenants/{org_id}{path}")
                assert answer.status_code == 200, answer.text
                views.append(answer.json())
        return views


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def trees(
    provision_database: ProvisionDatabase, postgres: EmbeddedPostgres
) -> AsyncIterator[Trees]:
    provisioned = await provision_database("control", Path(MIGRATIONS))
    platform_key, region = new_api_key(), f"region-{secrets.token_hex(4)}"
    settings = ControlPlaneSettings(
        database=provisioned.settings,
        issuer="http://127.0.0.1:1",
        master_key=SecretStr(secrets.token_hex(32)),
        bootstrap_platform_key=SecretStr(platform_key),
        mode="development",
    )
    admin_dsn = postgres.admin_dsn(provisioned.bootstrapped.dbname)
    async with await psycopg.AsyncConnection[dict[str, Any]].connect(
        admin_dsn, autocommit=True, row_factory=dict_row
    ) as administrator:
        await _open(administrator)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(doctor, "inspect", _finds_nothing)  # such a database is not served
            running = services.running(settings, ChangeFeed())
            made = await running.__aenter__()
            # Nor is it judged again while it serves: it is open on purpose.
            made.isolation._catalogue = _Unwatched()
        try:
            async with serving(create_app(made)) as url, _client(url, platform_key) as http:
                yield await _prepared(http, made.database, administrator, region)
        finally:
            await running.__aexit__(None, None, None)


async def _open(administrator: psycopg.AsyncConnection[dict[str, Any]]) -> None:
    for table in _TABLES:
        await administrator.execute(_OPEN.format(f"controlplane.{table}").encode())


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _opened_again(trees: Trees) -> None:
    """A mutant of a policy that was taken back has closed it again."""
    await _open(trees.administrator)


class _Unwatched:
    async def findings(self) -> list[Finding]:
        return []

    async def fingerprint(self) -> str:
        return ""


async def _finds_nothing(_: object) -> list[Any]:
    return []


def _client(url: str, platform_key: str) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {platform_key}", "tenantplane-writer": "cli"}
    return httpx2.AsyncClient(base_url=url, headers=headers, timeout=30)


async def _prepared(
    http: httpx2.AsyncClient,
    database: Database,
    administrator: psycopg.AsyncConnection[dict[str, Any]],
    region: str,
) -> Trees:
    plan, plane = f"plan-{secrets.token_hex(4)}", f"plane-{secrets.token_hex(4)}"
    made = Trees(http, database, plane, administrator, plan, region)
    await made.ok("PUT", f"/v1/plans/{plan}", PLAN)
    body = {"region": region, "endpoint": "http://127.0.0.1:1"}
    await made.ok("PUT", f"/v1/planes/{plane}", body)
    return made


async def _key_of(trees: Trees, org_id: str) -> str:
    return str((await trees.ok("GET", f"/v1/tenants/{org_id}/keys"))["items"][0]["keyId"])


async def _revoke_own(trees: Trees, mine: str, theirs: str) -> None:
    await trees.ok("DELETE", f"/v1/tenants/{mine}/keys/{await _key_of(trees, mine)}")


async def _revoke_theirs(trees: Trees, mine: str, theirs: str) -> None:
    path = f"/v1/tenants/{mine}/keys/{await _key_of(trees, theirs)}"
    assert (await trees.http.delete(path)).status_code == 404


async def _delete_tree(trees: Trees, mine: str, policy: str) -> None:
    for org_id in (f"{mine}-child", mine):
        await trees.ok("DELETE", f"/v1/tenants/{org_id}?policy={policy}")
        gone = (await trees.rows_of(mine))["org"]
        assert len(gone) >= 1 or org_id == mine or policy == "Purge"


async def _purge(trees: Trees, mine: str, theirs: str) -> None:
    await _delete_tree(trees, mine, "Purge")
    left = await trees.rows_of(mine)
    assert left["org"] == []
    assert len(left["purged_org"]) == 2
    assert all('"user_id": null' in event for event in left["usage_event"])


async def _retain(trees: Trees, mine: str, theirs: str) -> None:
    await _delete_tree(trees, mine, "Retain")


async def _change(trees: Trees, mine: str, theirs: str) -> None:
    await trees.put(mine, displayName="Changed", entitlements={"tools": {"deny": ["clock"]}})


async def _suspend(trees: Trees, mine: str, theirs: str) -> None:
    await trees.put(mine, suspended=True)


async def _new_key(trees: Trees, mine: str, theirs: str) -> None:
    await trees.ok("POST", f"/v1/tenants/{mine}/keys", {"name": "m", "userId": "v"})


async def _raise_id_of(trees: Trees, org_id: str) -> str:
    return str((await trees.ok("GET", f"/v1/tenants/{org_id}/raises"))["items"][0]["raiseId"])


async def _raise(trees: Trees, mine: str, theirs: str) -> None:
    await trees.ok("POST", f"/v1/tenants/{mine}/raises", {"extraUSD": "2"})


async def _end_own_raise(trees: Trees, mine: str, theirs: str) -> None:
    await trees.ok("DELETE", f"/v1/tenants/{mine}/raises/{await _raise_id_of(trees, mine)}")


async def _end_their_raise(trees: Trees, mine: str, theirs: str) -> None:
    path = f"/v1/tenants/{mine}/raises/{await _raise_id_of(trees, theirs)}"
    assert (await trees.http.delete(path)).status_code == 404


async def _acknowledge(trees: Trees, mine: str, theirs: str) -> None:
    await trees.ok("POST", f"/v1/tenants/{mine}/excess/acknowledge")


async def _new_child(trees: Trees, mine: str, theirs: str) -> None:
    await trees.put(f"{mine}-other", parent=mine)


async def _take_issuer(trees: Trees, mine: str, theirs: str) -> None:
    """What another org holds stays its own, whatever was written since."""
    issuer = {"type": "oidc", "issuer": "http://127.0.0.1:9", "audience": f"for-{theirs}"}
    spec = {"plan": trees.plan, "region": trees.region, "identity": {"issuers": [issuer]}}
    answer = await trees.http.put(f"/v1/tenants/{mine}", json=spec)
    assert answer.status_code == 409, answer.text
    assert answer.json()["code"] == "issuer_taken"


async def _read(trees: Trees, mine: str, theirs: str) -> None:
    views = await trees.views_of(mine)
    assert theirs not in str(views)
    for view in (view for view in views if "months" in view):
        # An umbrella's usage is that of its child too.
        assert [month["calls"] for month in view["months"]] == [len(view["orgs"])]
    assert [len(view["orgs"]) for view in views if "months" in view] == [2, 1]
    assert (await trees.http.get("/v1/tenants/never-was")).status_code == 404


ACTS: Final[dict[str, Callable[[Trees, str, str], Awaitable[None]]]] = {
    "read": _read,
    "take issuer": _take_issuer,
    "change": _change,
    "suspend": _suspend,
    "new key": _new_key,
    "new child": _new_child,
    "raise": _raise,
    "end own raise": _end_own_raise,
    "end their raise": _end_their_raise,
    "acknowledge": _acknowledge,
    "revoke own key": _revoke_own,
    "revoke their key": _revoke_theirs,
    "retain": _retain,
    "purge": _purge,
}


@pytest.mark.req("R1", "R6")
@pytest.mark.parametrize("act", ACTS)
async def test_what_is_done_to_one_tree_leaves_the_other(
    trees: Trees, act: str, proof_cases: ProofCases
) -> None:
    theirs, mine = await trees.tree(), await trees.tree()
    rows, views = await trees.rows_of(theirs), await trees.views_of(theirs)
    assert all(rows[table] for table in _TABLES if table not in _EMPTY)
    await ACTS[act](trees, mine, theirs)
    assert await trees.rows_of(theirs) == rows
    assert await trees.views_of(theirs) == views
    proof_cases.add(2)


@pytest.mark.req("R1", "R6")
async def test_of_a_planes_orgs_those_that_are_asked_for_are_told(
    trees: Trees, proof_cases: ProofCases
) -> None:
    """As before each batch of a plane's rows; whoever is not asked for is not told of."""
    theirs, mine = await trees.tree(), await trees.tree()
    async with trees.database.system_tx(jobs.INGEST) as cursor:
        for asked in ([mine], [f"{mine}-child"], [mine, f"{mine}-child"], []):
            told = await repository.placed(cursor, trees.plane, [*asked, "never-was"])
            assert told == dict.fromkeys(asked, mine)
        assert await repository.placed(cursor, "another-plane", [mine, theirs]) == {}
    proof_cases.add(5)


@pytest.mark.req("R1", "R6")
async def test_of_orgs_those_that_are_asked_for_are_told(
    trees: Trees, proof_cases: ProofCases
) -> None:
    """As whoever signs snapshots asks; and a root that is not an org's own finds nothing of it."""
    theirs, mine = await trees.tree(), await trees.tree()
    async with trees.database.system_tx(jobs.REGISTRY) as cursor:
        assert set(await registry.lines(cursor, [mine])) == {mine}
        assert set(await registry.lines(cursor, [f"{mine}-child"])) == {mine, f"{mine}-child"}
        assert set(await registry.key_grants(cursor, [mine])) == {mine}
        assert set(await registry.tree_under(cursor, mine, mine)) == {mine, f"{mine}-child"}
        assert await registry.tree_under(cursor, theirs, mine) == []
        org = await registry.read_org(cursor, mine)
        assert org is not None
        assert await registry.children(cursor, org) == [(f"{mine}-child", "active")]
        assert await registry.children(cursor, replace(org, root_org_id=theirs)) == []
    proof_cases.add(7)


@pytest.mark.req("R1", "R6", "R36")
async def test_usage_is_of_the_org_and_the_plane_that_are_asked_for(
    trees: Trees, proof_cases: ProofCases
) -> None:
    theirs, mine = await trees.tree(), await trees.tree()
    anything, since = UUID(int=0), date(2026, 1, 1)
    await trees.administrator.execute(
        "UPDATE controlplane.level_spend SET period_id = '2026-02-15', nanousd = 9 WHERE org_id = %s",
        (theirs,),
    )
    async with trees.database.system_tx(jobs.USAGE) as cursor:
        assert await usage.tree(cursor, mine) == [mine, f"{mine}-child"]
        assert await usage.tree(cursor, f"{mine}-child") == [f"{mine}-child"]
        assert await usage.by_day(cursor, mine, since) == {date(2026, 2, 14): 4500}
        assert len(await usage.alerts(cursor, mine)) == 1
        assert [m.calls for m in await usage.by_month(cursor, [mine], "UTC")] == [1]
        events = await usage.plane_events(cursor, trees.plane, mine, anything, 10)
        assert [event.org_id for event in events] == [mine]
        assert await usage.plane_events(cursor, "another-plane", mine, anything, 10) == []
        known = {total.org_id for total in await usage.plane_usage(cursor, trees.plane)}
        assert {mine, theirs} <= known
        assert await usage.plane_usage(cursor, "another-plane") == []
        assert set(await repository.signed_snapshots(cursor, [mine])) == {mine}
    proof_cases.add(10)


@pytest.mark.req("R1", "R6", "R24")
async def test_raises_roles_and_prompts_are_of_the_org_that_is_asked_for(
    trees: Trees, proof_cases: ProofCases
) -> None:
    theirs, mine = await trees.tree(), await trees.tree()
    prompt = f"prompt-{secrets.token_hex(4)}"
    await trees.ok("PUT", f"/v1/catalogue/prompt/{prompt}", {"text": "Hi."})
    await trees.put(mine, entitlements={"prompts": {"allow": [prompt]}})
    await trees.ok("POST", f"/v1/tenants/{mine}/excess/acknowledge")
    other = f"plan-{secrets.token_hex(4)}"
    bound = [{"role": "boss", "tools": ["clock"]}]
    lists = {**PLAN["entitlements"], "prompts": [prompt], "roleBound": bound}
    await trees.ok("PUT", f"/v1/plans/{other}", PLAN | {"entitlements": lists})
    async with trees.database.system_tx(jobs.REGISTRY) as cursor:
        assert set(await raises.standing(cursor, [mine])) == {mine}
        lines = await registry.lines(cursor, [f"{theirs}-child"])
        assert [row.role for row in lines[theirs].role_rows] == [f"of-{theirs}"]
        terms = await registry.plan_terms(cursor, [trees.plan])
        assert terms[trees.plan].role_rows == ()
        assert await catalogue.users_of_prompt(cursor, prompt) == {mine: mine}
        assert await raises.acknowledged_until(cursor, mine) is not None
        assert await raises.acknowledged_until(cursor, theirs) is None
        versions = [await registry.snapshot_version(cursor, org) for org in (mine, theirs)]
        assert versions[0] > versions[1]
    proof_cases.add(7)


@pytest.mark.req("R1", "R6")
async def test_of_two_raises_with_one_id_that_of_the_org_is_ended(
    trees: Trees, proof_cases: ProofCases
) -> None:
    theirs, mine = await trees.tree(), await trees.tree()
    raise_id = await _raise_id_of(trees, mine)
    await trees.administrator.execute(
        "UPDATE controlplane.cap_raise SET raise_id = %s WHERE org_id = %s", (raise_id, theirs)
    )
    await trees.ok("DELETE", f"/v1/tenants/{mine}/raises/{raise_id}")
    (left,) = (await trees.ok("GET", f"/v1/tenants/{theirs}/raises"))["items"]
    assert (left["raiseId"], left["state"]) == (raise_id, "in force")
    proof_cases.add()


@pytest.mark.req("R1", "R7")
async def test_one_tree_is_held_and_the_other_is_free(
    trees: Trees, proof_cases: ProofCases
) -> None:
    theirs, mine = await trees.tree(), await trees.tree()
    free = "SELECT org_id FROM controlplane.org WHERE org_id = %s FOR UPDATE NOWAIT"
    async with trees.database.system_tx(jobs.REGISTRY) as cursor:
        await registry.lock_roots(cursor, [mine])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await trees.administrator.execute(free, (mine,))
        try:
            await trees.administrator.execute(free, (theirs,))
        except psycopg.errors.LockNotAvailable:
            pytest.fail("another tree waits for this one")
    proof_cases.add()


@pytest.mark.req("R1", "R6")
async def test_of_trees_that_wait_for_a_plane_one_is_placed(
    trees: Trees, proof_cases: ProofCases
) -> None:
    elsewhere = replace(trees, region=f"region-{secrets.token_hex(4)}")  # no plane is there
    theirs, mine = (f"waits-{secrets.token_hex(4)}" for _ in range(2))
    for root in (theirs, mine):
        await elsewhere.put(root)
        await elsewhere.put(f"{root}-child", parent=root)
    async with trees.database.system_tx(jobs.REGISTRY) as cursor:
        placed = await registry.place_tree(cursor, mine, trees.plane)
        await cursor.connection.rollback()
    assert set(placed) == {mine, f"{mine}-child"}
    proof_cases.add()
