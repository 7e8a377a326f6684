"""`tenantplane keys`."""

from __future__ import annotations

from tenantplane.cli.output import console, table
from tenantplane.core.apis.registry import ApiKeyRequest
from tenantplane.core.registry import RegistryClient


async def create(registry: RegistryClient, org: str, request: ApiKeyRequest) -> None:
    created = await registry.create_key(org, request)
    console.print(created.secret, markup=False)


async def show(registry: RegistryClient, org: str) -> None:
    table(
        ("key", "name", "user", "created", "expires", "revoked"),
        [
            (k.key_id, k.name, k.user_id, k.created_at, k.expires_at, k.revoked_at)
            for k in await registry.keys(org)
        ],
    )


async def revoke(registry: RegistryClient, org: str, key_id: str) -> None:
    await registry.revoke_key(org, key_id)
    console.print(f"key {key_id} of {org} revoked")
