"""Reads and writes the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.registry.catalogue import statements
from tenantplane.core.apis.catalogue import CatalogueRequest, CatalogueView, Kind
from tenantplane.core.apis.snapshot import PromptGrant


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of an entry."""

    version: int
    description: str
    text: str | None
    created_by: str
    created_at: datetime
    withdrawn_by: str | None
    withdrawn_at: datetime | None


async def lock_for_change(cursor: Cursor) -> None:
    await cursor.execute(statements.LOCK_FOR_CHANGE)


async def lock_for_use(cursor: Cursor) -> None:
    await cursor.execute(statements.LOCK_FOR_USE)


async def versions(cursor: Cursor, kind: Kind, name: str) -> list[VersionRow]:
    """Newest first, withdrawn ones too."""
    await cursor.execute(statements.VERSIONS, {"kind": kind, "name": name})
    return [VersionRow(**row) for row in await cursor.fetchall()]


async def entries(cursor: Cursor, kind: Kind | None) -> list[CatalogueView]:
    """As they are in force, without their texts."""
    await cursor.execute(statements.ENTRIES, {"kind": kind})
    return [CatalogueView(**row) for row in await cursor.fetchall()]


async def insert_version(
    cursor: Cursor, kind: Kind, name: str, version: int, request: CatalogueRequest, actor: str
) -> None:
    await cursor.execute(
        statements.INSERT_VERSION,
        {
            "kind": kind,
            "name": name,
            "version": version,
            "description": request.description,
            "text": request.text,
            "actor": actor,
        },
    )


async def withdraw(cursor: Cursor, kind: Kind, name: str, version: int | None, actor: str) -> int:
    """That version, or all where None is named; how many were in use until now."""
    await cursor.execute(
        statements.WITHDRAW, {"kind": kind, "name": name, "version": version, "actor": actor}
    )
    return cursor.rowcount


async def users_of_prompt(cursor: Cursor, name: str) -> dict[str, str]:
    """Org ids with their roots."""
    await cursor.execute(statements.USERS_OF_PROMPT, {"name": name})
    return {row["org_id"]: row["root_org_id"] for row in await cursor.fetchall()}


async def usable_versions(cursor: Cursor, names: Iterable[str]) -> dict[str, list[int]]:
    """Of each prompt the versions that are not withdrawn."""
    await cursor.execute(statements.USABLE_VERSIONS, {"names": sorted(names)})
    return {row["name"]: row["versions"] for row in await cursor.fetchall()}


async def prompts(
    cursor: Cursor, wanted: Sequence[tuple[str, int]]
) -> Mapping[tuple[str, int], PromptGrant]:
    """The texts of these names and versions."""
    await cursor.execute(
        statements.TEXTS,
        {"names": [name for name, _ in wanted], "versions": [version for _, version in wanted]},
    )
    return {
        (row["name"], row["version"]): PromptGrant(
            name=row["name"], version=row["version"], text=row["prompt"]
        )
        for row in await cursor.fetchall()
    }
