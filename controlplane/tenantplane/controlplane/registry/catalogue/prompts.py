"""Which version of each prompt an org gets, and its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.registry.catalogue import repository
from tenantplane.core.apis.snapshot import PromptGrant
from tenantplane.core.entitlements import Lists, base_name, resolve
from tenantplane.core.errors import Unprocessable

# All prompts of one snapshot together: planes fetch and keep hundreds of snapshots at a time.
MAX_TOTAL_BYTES: Final = 262_144


def choose_versions(lists: Lists, usable: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Name → version of each prompt that the org may use, out of the versions not withdrawn.

    The highest that is not denied; where versions are named, the highest of those.
    """
    resolved = resolve("prompt", lists.plan, lists.org)
    denied = {row.name for row in lists.org if (row.kind, row.effect) == ("prompt", "deny")}
    chosen: dict[str, int] = {}
    for name in sorted({base_name(entry) for entry in resolved}):
        free = [v for v in usable.get(name, ()) if _pinned(name, v) not in denied]
        pinned = [version for version in free if _pinned(name, version) in resolved]
        candidates = pinned or (free if name in resolved else [])
        if candidates:
            chosen[name] = max(candidates)
    return chosen


async def granted(cursor: Cursor, lists: Mapping[str, Lists]) -> dict[str, tuple[PromptGrant, ...]]:
    """By org id, for those orgs that may use any. Raises Unprocessable (`prompts_too_large`)."""
    listing = {org_id: names for org_id, rows in lists.items() if (names := rows.named("prompt"))}
    if not listing:
        return {}
    usable = await repository.usable_versions(cursor, set().union(*listing.values()))
    chosen = {org_id: choose_versions(lists[org_id], usable) for org_id in listing}
    wanted = sorted({pair for versions in chosen.values() for pair in versions.items()})
    texts = await repository.prompts(cursor, wanted)
    grants = {
        org_id: tuple(texts[pair] for pair in versions.items())
        for org_id, versions in chosen.items()
    }
    for org_id, prompts in grants.items():
        _refuse_too_large(org_id, prompts)
    return grants


def _pinned(name: str, version: int) -> str:
    return f"{name}@{version}"


def _refuse_too_large(org_id: str, prompts: Iterable[PromptGrant]) -> None:
    sizes = {prompt.name: len(prompt.text.encode()) for prompt in prompts}
    total = sum(sizes.values())
    if total > MAX_TOTAL_BYTES:
        longest = max(sizes, key=lambda name: sizes[name])
        raise Unprocessable(
            f"The prompts of tenant {org_id!r} come to {total} bytes; {MAX_TOTAL_BYTES} fit into "
            "its snapshot.",
            hint=f"Shorten them (the longest is {longest!r}), or deny the tenant those that it "
            "does not use.",
            code="prompts_too_large",
        )
