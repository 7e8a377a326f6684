"""The catalogue: what there is to entitle to. A changed prompt signs its users' snapshots anew.

An entry is no entitlement: nobody may use it who is not allowed it by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.registry import repository as registry
from tenantplane.controlplane.registry.catalogue import repository
from tenantplane.controlplane.registry.catalogue.repository import VersionRow
from tenantplane.controlplane.registry.signing import Signatory
from tenantplane.core.apis.catalogue import (
    CatalogueRequest,
    CatalogueVersion,
    CatalogueView,
    Kind,
)
from tenantplane.core.errors import FieldError, NotFound, Unprocessable


class Catalogue:
    """Entries by kind and name. Services never commit: the caller's transaction is the unit."""

    def __init__(self, signatory: Signatory) -> None:
        self._signatory = signatory

    async def put(
        self, cursor: Cursor, kind: Kind, name: str, request: CatalogueRequest, actor: str
    ) -> CatalogueView:
        """A new version, unless the one in force says the same. Raises Unprocessable (a prompt
        without text, a text that is no prompt's, `prompts_too_large`)."""
        _refuse_misplaced_text(kind, request)
        await repository.lock_for_change(cursor)
        before = await repository.versions(cursor, kind, name)
        current = _in_force(before)
        if current is not None and _says_the_same(current, request):
            return _view(kind, name, before)
        newest = before[0].version if before else 0
        await repository.insert_version(cursor, kind, name, newest + 1, request, actor)
        return await self._changed(cursor, kind, name)

    async def withdraw(
        self, cursor: Cursor, kind: Kind, name: str, version: int | None, actor: str
    ) -> CatalogueView:
        """Takes a version out of force, or all; the highest that is left takes its place.
        Idempotent. Raises NotFound."""
        await repository.lock_for_change(cursor)
        known = [row.version for row in await repository.versions(cursor, kind, name)]
        if not known or (version is not None and version not in known):
            raise _no_such_entry(kind, name, version)
        if await repository.withdraw(cursor, kind, name, version, actor):
            return await self._changed(cursor, kind, name)
        return await self.entry(cursor, kind, name)

    async def entry(self, cursor: Cursor, kind: Kind, name: str) -> CatalogueView:
        """With the text in force and all versions. Raises NotFound."""
        rows = await repository.versions(cursor, kind, name)
        if not rows:
            raise _no_such_entry(kind, name, None)
        return _view(kind, name, rows)

    async def entries(self, cursor: Cursor, kind: Kind | None) -> list[CatalogueView]:
        """By kind and name, without texts."""
        return await repository.entries(cursor, kind)

    async def _changed(self, cursor: Cursor, kind: Kind, name: str) -> CatalogueView:
        signed = 0
        if kind == "prompt":
            users = await repository.users_of_prompt(cursor, name)
            await registry.lock_roots(cursor, sorted(set(users.values())))
            signed = await self._signatory.sign_anew(cursor, sorted(users))
        view = await self.entry(cursor, kind, name)
        return view.model_copy(update={"changed": True, "signed": signed})


def _refuse_misplaced_text(kind: Kind, request: CatalogueRequest) -> None:
    if kind == "prompt" and request.text is None:
        message = "is required for kind prompt"
    elif kind != "prompt" and request.text is not None:
        message = "is for kind prompt alone: remove it"
    else:
        return
    raise Unprocessable(
        f"text {message}.", code="invalid_fields", errors=(FieldError("text", message),)
    )


def _in_force(rows: Sequence[VersionRow]) -> VersionRow | None:
    return next((row for row in rows if row.withdrawn_at is None), None)


def _says_the_same(row: VersionRow, request: CatalogueRequest) -> bool:
    return (row.description, row.text) == (request.description, request.text)


def _view(kind: Kind, name: str, rows: Sequence[VersionRow]) -> CatalogueView:
    current = _in_force(rows)
    return CatalogueView(
        kind=kind,
        name=name,
        version=current.version if current else None,
        description=(current or rows[0]).description,
        text=current.text if current else None,
        versions=tuple(
            CatalogueVersion(
                version=row.version,
                created_by=row.created_by,
                created_at=row.created_at,
                withdrawn_by=row.withdrawn_by,
                withdrawn_at=row.withdrawn_at,
            )
            for row in rows
        ),
    )


def _no_such_entry(kind: Kind, name: str, version: int | None) -> NotFound:
    which = f"version {version} of the {kind}" if version else f"{kind}"
    return NotFound(
        f"The catalogue has no {which} {name!r}.", hint="GET /v1/catalogue lists what it has."
    )
