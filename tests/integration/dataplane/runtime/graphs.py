"""Graphs whose state the tests keep."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph


class Steps(TypedDict):
    done: Annotated[list[str], operator.add]


Act = Callable[[str], Awaitable[None]]


async def nothing(_: str) -> None:
    return None


def three_steps(act: Act = nothing) -> StateGraph[Steps, None, Steps, Steps]:
    """first → second → third; `act` is called with a step's name before it is done."""
    return _chain(("first", "second", "third"), act)


def _chain(names: tuple[str, ...], act: Act) -> StateGraph[Steps, None, Steps, Steps]:
    graph = StateGraph(Steps)
    for name in names:
        graph.add_node(name, _node(name, act))
    for start, end in zip((START, *names), (*names, END), strict=True):
        graph.add_edge(start, end)
    return graph


def side_by_side(count: int) -> StateGraph[Steps, None, Steps, Steps]:
    """So many steps at once: each writes its own, at the same time as the others."""
    graph = StateGraph(Steps)
    for number in range(count):
        graph.add_node(f"step{number}", _node(f"step{number}", nothing))
        graph.add_edge(START, f"step{number}")
        graph.add_edge(f"step{number}", END)
    return graph


def _node(name: str, act: Act) -> RunnableLambda[Steps, dict[str, Any]]:
    async def step(state: Steps) -> dict[str, Any]:
        await act(name)
        return {"done": [name]}

    return RunnableLambda(step)
