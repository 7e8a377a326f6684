"""Which items and namespaces a question of LangGraph's store means. Pure, and as its own stores
answer: `langgraph.store.memory.InMemoryStore` is the model, and the tests compare the two."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from langgraph.store.base import ListNamespacesOp, MatchCondition

from tenantplane.core.errors import InvalidInput

Namespace = tuple[str, ...]


def matches(value: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    """Whether an item's value passes a filter. Raises InvalidInput for an unknown operator."""
    return all(_passes(value.get(field), asked) for field, asked in (wanted or {}).items())


def listed(namespaces: Iterable[Namespace], question: ListNamespacesOp) -> list[Namespace]:
    """The namespaces that a question asks for, sorted, cut to its depth and its page."""
    conditions = question.match_conditions or ()
    found = {
        namespace[: question.max_depth]
        for namespace in namespaces
        if all(_fits(condition, namespace) for condition in conditions)
    }
    return sorted(found)[question.offset : question.offset + question.limit]


def _fits(condition: MatchCondition, namespace: Namespace) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    start = 0 if condition.match_type == "prefix" else len(namespace) - len(path)
    part = namespace[start : start + len(path)]
    return all(asked in ("*", label) for label, asked in zip(part, path, strict=True))


def _passes(value: Any, asked: Any) -> bool:
    match asked:
        case dict() if any(str(key).startswith("$") for key in asked):
            return all(_compares(value, operator, operand) for operator, operand in asked.items())
        case dict():
            return isinstance(value, dict) and all(
                _passes(value.get(key), inner) for key, inner in asked.items()
            )
        case list() | tuple():
            return (
                isinstance(value, list | tuple)
                and len(value) == len(asked)
                and all(_passes(left, right) for left, right in zip(value, asked, strict=True))
            )
        case _:
            return bool(value == asked)


def _compares(value: Any, operator: str, operand: Any) -> bool:
    match operator:
        case "$eq":
            return bool(value == operand)
        case "$ne":
            return bool(value != operand)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _ordered(_number(value), operator, _number(operand))
        case _:
            raise InvalidInput(
                f"There is no operator {operator[:40]!r} in a filter.",
                hint="Use $eq, $ne, $gt, $gte, $lt or $lte.",
            )


def _number(value: Any) -> float:
    """What is no number is neither more nor less than anything, as NaN is not."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _ordered(left: float, operator: str, right: float) -> bool:
    match operator:
        case "$gt":
            return left > right
        case "$gte":
            return left >= right
        case "$lt":
            return left < right
        case _:
            return left <= right
