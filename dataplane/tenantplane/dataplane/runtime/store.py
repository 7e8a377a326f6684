"""LangGraph's store in a tenant table: what agents of an org keep across threads.

The tenant is given when it is made, not taken from a context: LangGraph's own batching store writes
from a background task that captured its context at start, and so wrote three tenants' items under
one tenant. Here is no queue and no task: a call is one transaction of its caller.

Values are sealed under the org's data key; namespaces and keys are names, and stand in clear.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    validate_op_namespace,
)

from tenantplane.core.db.pool import Database, TenantCursor
from tenantplane.core.errors import Forbidden, InvalidInput
from tenantplane.core.ids import is_org_id
from tenantplane.core.keys.envelope import DataKey
from tenantplane.core.tenancy import bare, namespaced
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.sealing import opened, place
from tenantplane.dataplane.runtime.statements import statement
from tenantplane.dataplane.runtime.store_matching import Namespace, listed, matches

_BETWEEN: Final = "."  # labels hold none
_AFTER: Final = "/"  # the character after it
_MAX_NAMESPACE: Final = 1000
_MAX_KEY: Final = 500
_PAGE: Final = 100
_SECONDS_PER_MINUTE: Final = 60.0
_MAX_TTL_MINUTES: Final = 100 * 366 * 24 * 60

_Row = Mapping[str, Any]


class TenantStore(BaseStore):
    """The items of one org. Async alone. A batch is one transaction: what it reads is from before
    what it writes, and of two writes of one key the later stands, as in LangGraph's own stores.

    Raises InvalidNamespaceError and InvalidInput (names, values), Forbidden (`checkpoint_refused`
    for a stored value that does not open), DependencyUnavailable.
    """

    supports_ttl = True

    def __init__(self, database: Database, keys: DataKeys, org_id: str) -> None:
        if not is_org_id(org_id):
            raise Forbidden("A store needs a tenant.", code="tenant_forgotten")
        self._database = database
        self._keys = keys
        self.org_id = org_id

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        raise NotImplementedError("This store is asynchronous: use aget, aput, asearch and so on.")

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        wanted = list(ops)
        for op in wanted:
            _validate(op)
        # Outside of the transaction: the first use of a key may ask the KMS.
        key = await self._keys.of(self.org_id)
        puts = {(op.namespace, op.key): op for op in wanted if isinstance(op, PutOp)}
        sealed = {where: self._seal(key, op) for where, op in puts.items()}
        async with self._database.tenant_tx(self.org_id) as cursor:
            results = [await self._read(cursor, key, op) for op in wanted]
            # In one order everywhere: two batches that wait for each other's rows never end.
            for where in sorted(puts):
                await self._write(cursor, puts[where], sealed[where])
        return results

    async def _read(self, cursor: TenantCursor, key: DataKey, op: Op) -> Result:
        match op:
            case GetOp():
                return await self._get(cursor, key, op)
            case SearchOp():
                return await self._search(cursor, key, op)
            case ListNamespacesOp():
                return await self._namespaces(cursor, op)
            case _:
                return None

    async def _get(self, cursor: TenantCursor, key: DataKey, op: GetOp) -> Item | None:
        await cursor.execute(statement("store_get"), self._key(op.namespace, op.key))
        row = await cursor.fetchone()
        if row is None:
            return None
        if op.refresh_ttl:
            await self._touch(cursor, [row])
        return Item(value=self._open(key, row), **self._named(row))

    async def _search(self, cursor: TenantCursor, key: DataKey, op: SearchOp) -> list[SearchItem]:
        found: list[tuple[_Row, dict[str, Any]]] = []
        last = op.offset + op.limit
        async for row in self._rows(cursor, op):
            value = self._open(key, row)
            if matches(value, op.filter):
                found.append((row, value))
            if len(found) >= last:
                break
        page = found[op.offset : last]
        if op.refresh_ttl and page:
            await self._touch(cursor, [row for row, _ in page])
        return [SearchItem(value=value, **self._named(row)) for row, value in page]

    async def _rows(self, cursor: TenantCursor, op: SearchOp) -> AsyncIterator[_Row]:
        prefix = self._stored(op.namespace_prefix) if op.namespace_prefix else None
        query: dict[str, Any] = {
            "org_id": self.org_id,
            "namespace": prefix,
            "below": None if prefix is None else prefix + _BETWEEN,
            "beyond": None if prefix is None else prefix + _AFTER,
            "after_time": None,
            "after_namespace": None,
            "after_key": None,
            # Without a filter every row counts: no more is read than is asked for.
            "limit": _PAGE if op.filter else min(_PAGE, op.offset + op.limit),
        }
        while query["limit"] > 0:
            await cursor.execute(statement("store_search"), query)
            rows = await cursor.fetchall()
            for row in rows:
                yield row
            if len(rows) < query["limit"]:
                return
            query |= {
                "after_time": rows[-1]["updated_at"],
                "after_namespace": rows[-1]["namespace"],
                "after_key": rows[-1]["key"],
            }

    async def _namespaces(self, cursor: TenantCursor, op: ListNamespacesOp) -> list[Namespace]:
        await cursor.execute(statement("store_namespaces"), {"org_id": self.org_id})
        return listed([self._labels(row["namespace"]) for row in await cursor.fetchall()], op)

    async def _write(self, cursor: TenantCursor, op: PutOp, body: bytes | None) -> None:
        where = self._key(op.namespace, op.key)
        if body is None:
            await cursor.execute(statement("store_delete"), where)
            return
        ttl_seconds = None if op.ttl is None else op.ttl * _SECONDS_PER_MINUTE
        await cursor.execute(
            statement("store_put"), where | {"body": body, "ttl_seconds": ttl_seconds}
        )

    async def _touch(self, cursor: TenantCursor, rows: Sequence[_Row]) -> None:
        await cursor.execute(
            statement("store_touch"),
            {
                "org_id": self.org_id,
                "namespaces": [row["namespace"] for row in rows],
                "keys": [row["key"] for row in rows],
            },
        )

    def _seal(self, key: DataKey, op: PutOp) -> bytes | None:
        if op.value is None:
            return None
        try:
            text = json.dumps(op.value, ensure_ascii=True)
        except (TypeError, ValueError, RecursionError):
            raise InvalidInput(
                "A stored value is JSON: an object of texts, numbers and lists."
            ) from None
        return key.encrypt(text.encode(), self._place(self._stored(op.namespace), op.key))

    def _open(self, key: DataKey, row: _Row) -> dict[str, Any]:
        plain = opened(key, row["body"], self._place(row["namespace"], row["key"]))
        value: dict[str, Any] = json.loads(plain)
        return value

    def _place(self, namespace: str, key: str) -> bytes:
        return place("store_item", self.org_id, namespace, key)

    def _key(self, namespace: Namespace, key: str) -> dict[str, Any]:
        return {"org_id": self.org_id, "namespace": self._stored(namespace), "key": key}

    def _stored(self, namespace: Namespace) -> str:
        return namespaced(self.org_id, _BETWEEN.join(namespace))

    def _labels(self, stored: str) -> Namespace:
        return tuple(bare(self.org_id, stored).split(_BETWEEN))

    def _named(self, row: _Row) -> dict[str, Any]:
        created_at: datetime = row["created_at"]
        updated_at: datetime = row["updated_at"]
        return {
            "namespace": self._labels(row["namespace"]),
            "key": row["key"],
            "created_at": created_at,
            "updated_at": updated_at,
        }


def _validate(op: Op) -> None:
    """Raises InvalidNamespaceError, and InvalidInput for what cannot be asked or stored."""
    validate_op_namespace(op)
    match op:
        case GetOp() | PutOp():
            _validate_name(op.namespace, op.key)
        case SearchOp():
            _validate_text(_BETWEEN.join(op.namespace_prefix), _MAX_NAMESPACE)
            _validate_page(op.limit, op.offset)
            if op.query:
                raise InvalidInput(
                    "This store does not search by similarity.",
                    hint="Keep what is to be found by meaning as documents of the org.",
                    code="similarity_not_available",
                )
        case ListNamespacesOp():
            _validate_page(op.limit, op.offset)
    if isinstance(op, PutOp) and op.ttl is not None and not 0 < op.ttl <= _MAX_TTL_MINUTES:
        raise InvalidInput("A time to live is more than 0 minutes, and at most a hundred years.")


def _validate_name(namespace: Namespace, key: str) -> None:
    if not namespace or not key:
        raise InvalidInput("An item needs a namespace and a key.")
    _validate_text(_BETWEEN.join(namespace), _MAX_NAMESPACE)
    _validate_text(key, _MAX_KEY)


def _validate_text(text: str, most: int) -> None:
    if len(text) > most or "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise InvalidInput(f"A name in the store is text of at most {most} characters.")


def _validate_page(limit: int, offset: int) -> None:
    if limit < 0 or offset < 0:
        raise InvalidInput("limit and offset are 0 or more.")
