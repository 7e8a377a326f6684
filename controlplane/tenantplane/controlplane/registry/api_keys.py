"""Keys of machines: the secret is shown once, the database and the planes know its hash alone."""

from __future__ import annotations

import hashlib

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.registry import repository
from tenantplane.controlplane.registry.locks import hold_org
from tenantplane.controlplane.registry.signing import Signatory
from tenantplane.core.apis.registry import ApiKeyCreated, ApiKeyRequest, ApiKeyView
from tenantplane.core.errors import NotFound
from tenantplane.core.ids import new_api_key, new_id


class ApiKeys:
    """A key is in force where the org's snapshot carries it, and gone with the next one."""

    def __init__(self, signatory: Signatory) -> None:
        self._signatory = signatory

    async def create(
        self, cursor: Cursor, org_id: str, request: ApiKeyRequest
    ) -> tuple[ApiKeyView, str]:
        """The key and its secret, which nobody can read again. Raises NotFound."""
        await hold_org(cursor, org_id)
        # SHA-256 alone, no slow hash: the secret has 256 random bits, and there is no list of them.
        secret = new_api_key()
        sha256 = hashlib.sha256(secret.encode()).digest()
        view = await repository.insert_key(cursor, org_id, str(new_id()), sha256, request)
        await self._signatory.sign_anew(cursor, [org_id])
        return view, secret

    async def revoke(self, cursor: Cursor, org_id: str, key_id: str) -> ApiKeyView:
        """Idempotent. Raises NotFound."""
        await hold_org(cursor, org_id)
        view = await repository.revoke_key(cursor, org_id, key_id)
        if view is None:
            raise NotFound(f"Tenant {org_id!r} has no key {key_id!r}.")
        await self._signatory.sign_anew(cursor, [org_id])
        return view

    async def keys(self, cursor: Cursor, org_id: str) -> list[ApiKeyView]:
        """All keys, revoked and expired ones too."""
        return await repository.keys(cursor, org_id)


def created(view: ApiKeyView, secret: str, version: int) -> ApiKeyCreated:
    return ApiKeyCreated(**view.model_dump(), secret=secret, version=version)
