"""The store on a real Postgres beside LangGraph's own in memory, on the same operations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.store.base import GetOp, InvalidNamespaceError, Op, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from tenantplane.core.errors import Forbidden, InvalidInput
from tenantplane.core.ids import new_id
from tenantplane.dataplane.runtime.memory import Memory
from tests.integration.dataplane.runtime.rows import Owner, overwrite

EVERYTHING = 1000
LABELS = st.sampled_from(["a", "b", "a%", "a_", "other::a", "ä", "a/b", "*"])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from(["k", "l", "K", "k::l", "%"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["x", "y", ""])
FIELDS = st.sampled_from(["p", "q"])
VALUES = st.dictionaries(
    FIELDS, SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(FIELDS, SCALARS), max_size=2
)
NUMBERS = st.integers(-3, 3)
FILTERS = st.none() | st.dictionaries(
    FIELDS,
    SCALARS
    | st.lists(SCALARS, max_size=2)
    | st.dictionaries(FIELDS, SCALARS, max_size=1)
    | st.dictionaries(st.sampled_from(["$eq", "$ne"]), SCALARS, min_size=1),
    max_size=2,
)
PUTS = st.builds(PutOp, NAMESPACES, KEYS, st.none() | VALUES, st.none(), st.none() | st.just(9.0))
GETS = st.builds(GetOp, NAMESPACES, KEYS, st.booleans())
SEARCHES = st.builds(
    SearchOp,
    st.just(()) | NAMESPACES,
    FILTERS,
    st.just(EVERYTHING),
    st.just(0),
    st.none(),
    st.booleans(),
)
OPERATIONS: st.SearchStrategy[Op] = PUTS | GETS | SEARCHES
BATCHES = st.lists(st.lists(OPERATIONS, min_size=1, max_size=6), min_size=1, max_size=4)


def plain(result: Any) -> Any:
    """What both answer alike: times differ, and the order of what was found is each one's own."""
    if isinstance(result, list):
        return sorted((plain(item) for item in result), key=repr)
    return None if result is None else (result.namespace, result.key, result.value)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=BATCHES, prefix=NAMESPACES, suffix=NAMESPACES, depth=st.none() | st.integers(1, 3))
async def test_it_answers_as_langgraphs_own_store(
    memory: Memory,
    batches: list[list[Op]],
    prefix: tuple[str, ...],
    suffix: tuple[str, ...],
    depth: int | None,
) -> None:
    ours, model = memory.store(f"store-{new_id().hex[-12:]}"), InMemoryStore()
    for batch in batches:
        found, expected = await ours.abatch(batch), await model.abatch(batch)
        assert [plain(result) for result in found] == [plain(result) for result in expected]
    # The model lists namespaces for ever whose items are gone.
    held = {item.namespace for item in await model.asearch((), limit=EVERYTHING)}
    shown = InMemoryStore()
    for namespace in held:
        await shown.aput(namespace, "k", {})
    for question in (
        {},
        {"prefix": prefix},
        {"suffix": suffix},
        {"prefix": prefix, "suffix": suffix},
    ):
        asked: dict[str, Any] = {**question, "max_depth": depth}
        assert await ours.alist_namespaces(**asked) == await shown.alist_namespaces(**asked)


@pytest.mark.parametrize("operator", ["$gt", "$gte", "$lt", "$lte"])
async def test_numbers_are_compared_as_its_model_does(
    memory: Memory, new_org: str, operator: str
) -> None:
    ours, model = memory.store(new_org), InMemoryStore()
    for number in (-2, 0, 1.5, 3, "2"):
        for store in (ours, model):
            await store.aput(("n",), str(number), {"n": number})
    wanted = {"n": {operator: 1.5}}
    found = await ours.asearch((), filter=wanted, limit=EVERYTHING)
    assert plain(found) == plain(await model.asearch((), filter=wanted, limit=EVERYTHING))


async def test_pages_are_whole_and_latest_first(memory: Memory, new_org: str) -> None:
    store = memory.store(new_org)
    for number in range(230):
        await store.aput(("p", str(number % 3)), f"{number}", {"even": number % 2 == 0})
    everything = [item.key for item in await store.asearch(("p",), limit=EVERYTHING)]
    assert everything == [str(number) for number in reversed(range(230))]
    even = await store.asearch((), filter={"even": True}, limit=10, offset=105)
    assert [item.key for item in even] == [str(number) for number in range(18, -1, -2)]


@pytest.mark.req("R5")
@pytest.mark.fault("F24")
async def test_hostile_names_stay_in_the_org(memory: Memory, new_org: str) -> None:
    mine, theirs = memory.store(new_org), memory.store(f"{new_org}-b")
    await theirs.aput(("safe",), "k", {"text": "theirs"})
    hostile = [("safe",), (f"{new_org}-b::safe",), (f"::{new_org}-b::safe",), ("*",), ("%",)]
    for namespace in hostile:
        assert await mine.aget(namespace, "k") is None
        assert await mine.asearch(namespace, limit=EVERYTHING) == []
        await mine.adelete(namespace, "k")
    assert await mine.asearch(()) == []
    assert await mine.asearch((), filter={"text": "theirs"}) == []
    assert await mine.alist_namespaces() == []
    await mine.aput(("safe",), "k", {"text": "mine"})
    assert plain(await theirs.aget(("safe",), "k")) == (("safe",), "k", {"text": "theirs"})
    for broken in (("a.b",), ("",), ("a\0",)):
        with pytest.raises(InvalidNamespaceError):
            await mine.aget(broken, "k")
    for key in ("", "a\0", "x" * 501, "\ud800"):
        with pytest.raises(InvalidInput):
            await mine.aput(("a",), key, {})
    with pytest.raises(Forbidden):
        memory.store("")


async def test_many_tenants_write_at_once_and_none_under_another(
    memory: Memory, new_org: str
) -> None:
    stores = [memory.store(f"{new_org}-{n}") for n in range(12)]
    await asyncio.gather(
        *(s.aput(("a",), str(n), {"org": s.org_id}) for n in range(5) for s in stores)
    )
    for store in stores:
        found = await store.asearch((), limit=EVERYTHING)
        assert [item.value for item in found] == [{"org": store.org_id}] * 5


@pytest.mark.fault("F60")
async def test_a_value_in_clear_is_refused(memory: Memory, data_owner: Owner, new_org: str) -> None:
    store = memory.store(new_org)
    await store.aput(("a",), "k", {"n": 1})
    await overwrite(data_owner, "store_item", new_org, b'{"n": 2}')
    for reading in (store.aget(("a",), "k"), store.asearch(())):
        with pytest.raises(Forbidden) as refused:
            await reading
        assert refused.value.error_code == "checkpoint_refused"


async def test_what_it_cannot_do_it_says(memory: Memory, new_org: str) -> None:
    store = memory.store(new_org)
    with pytest.raises(InvalidInput) as refused:
        await store.asearch((), query="like this")
    assert refused.value.error_code == "similarity_not_available"
    with pytest.raises(InvalidInput):
        await store.aput(("a",), "k", {"n": object()})
    for minutes in (0, -1, float("nan"), 1e12):
        with pytest.raises(InvalidInput):
            await store.aput(("a",), "k", {}, ttl=minutes)
    with pytest.raises(NotImplementedError):
        store.get(("a",), "k")
    await store.aput(("a",), "k", {"n": 1})
    with pytest.raises(InvalidInput):
        await store.asearch((), filter={"n": {"$like": "x"}})
