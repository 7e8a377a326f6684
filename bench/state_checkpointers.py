"""The checkpointers that are compared, and the graph that each of them keeps the state of."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import psycopg
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench import peers
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.pool import Database
from tenantplane.core.db.provision import Provisioned
from tenantplane.core.ids import new_id
from tenantplane.core.keys.local import LocalKeyProvider
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.memory import Memory

STOCK = "langgraph-checkpoint-postgres==3.2.0"
AT_A_TIME = 16
_STOCK_DATABASE = "stock"
_STOCK_POOL = 10

MakeSaver = Callable[[int], BaseCheckpointSaver[Any]]


@dataclass(frozen=True, slots=True)
class Contender:
    """`saver` answers the checkpointer of the n-th of those that run at a time."""

    saver: MakeSaver


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def _graph() -> StateGraph[State, None, State, State]:
    async def step(state: State) -> dict[str, list[AIMessage]]:
        return {"messages": [AIMessage(f"step {len(state['messages'])}")]}

    graph = StateGraph(State)
    names = ["first", "second", "third"]
    for name in names:
        graph.add_node(name, step)
    for start, end in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(start, end)
    return graph


async def contenders(
    opened: AsyncExitStack, server: EmbeddedPostgres, provisioned: Provisioned
) -> dict[str, Contender]:
    """Ours (sealed, an org for each that runs at a time), LangGraph's own on a pool of 10, and the
    one in memory; all open until `opened` ends."""
    return {
        "ours": await _ours(opened, provisioned),
        "stock": await _stock(opened, server),
        "memory": Contender(_each(InMemorySaver() for _ in range(1))),
    }


async def runs_per_second(contender: Contender, runs: int, messages: int) -> float:
    """`runs` new threads of three nodes each, 16 at a time, every step durable before the next.
    With `messages`, each thread begins with so many."""
    share, graph = runs // AT_A_TIME, _graph()

    async def worker(number: int) -> None:
        compiled = graph.compile(checkpointer=contender.saver(number))
        for _ in range(share):
            config: RunnableConfig = {"configurable": {"thread_id": str(new_id())}}
            await compiled.ainvoke({"messages": _first(messages)}, config, durability="sync")

    started = time.perf_counter()
    await asyncio.gather(*(worker(number) for number in range(AT_A_TIME)))
    return share * AT_A_TIME / (time.perf_counter() - started)


def _first(messages: int) -> list[AnyMessage]:
    said: list[AnyMessage] = [HumanMessage("What is the weather like in Paris?")]
    said += [AIMessage("The weather is fine, and it stays so. " * 5) for _ in range(messages)]
    return said


async def _ours(opened: AsyncExitStack, provisioned: Provisioned) -> Contender:
    database = Database(provisioned.settings, name="data")
    opened.push_async_callback(database.close)
    await database.open()
    memory = Memory(database, DataKeys(database, LocalKeyProvider(secrets.token_bytes(32))))
    opened.push_async_callback(memory.stop)
    await memory.start()
    return Contender(lambda number: memory.saver(f"org-{number}"))


async def _stock(opened: AsyncExitStack, server: EmbeddedPostgres) -> Contender:
    peers.importable(STOCK)
    from langgraph.checkpoint.postgres.aio import (  # type: ignore[import-not-found] # noqa: PLC0415
        AsyncPostgresSaver,
    )

    async with await psycopg.AsyncConnection.connect(server.admin_dsn(), autocommit=True) as admin:
        await admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_STOCK_DATABASE)))
    # As its documentation has it.
    pool = AsyncConnectionPool(
        make_conninfo(server.admin_dsn(), dbname=_STOCK_DATABASE),
        min_size=_STOCK_POOL,
        max_size=_STOCK_POOL,
        open=False,
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
    )
    await opened.enter_async_context(pool)
    saver = AsyncPostgresSaver(pool)
    await saver.setup()
    return Contender(_each([saver]))


def _each(savers: Any) -> MakeSaver:
    made: Sequence[BaseCheckpointSaver[Any]] = list(savers)
    return lambda number: made[number % len(made)]
