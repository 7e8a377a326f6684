"""The control plane's own keys: the signing key, made once and wrapped in the database; the platform
key of the settings, of which the hash alone is kept."""

from __future__ import annotations

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.identity import repository
from tenantplane.controlplane.identity.schemas import WrappedSigningKey
from tenantplane.core.errors import ConfigurationRefused, Forbidden
from tenantplane.core.identity.keyset import KeySet
from tenantplane.core.keys.envelope import (
    DataKey,
    KeyProvider,
    associated_data,
    new_data_key,
)
from tenantplane.core.keys.signing import SigningKey

_PURPOSE = "signing_key"
# Not a tenant's name: org ids begin with a letter.
_OWNER = "-platform"


async def ensure_signing_key(cursor: Cursor, provider: KeyProvider) -> SigningKey:
    """The active key; made where there is none. Two that start at once agree on the first.

    Raises ConfigurationRefused where the master key does not open it.
    """
    stored = await repository.active_signing_key(cursor)
    if stored is None:
        fresh = SigningKey.generate()
        await repository.insert_signing_key(
            cursor, await _wrap(fresh, provider), fresh.public_jwk()
        )
        stored = await repository.active_signing_key(cursor)
        assert stored is not None
    return await _unwrap(stored, provider)


async def key_set(cursor: Cursor) -> KeySet:
    """All public keys that the control plane has signed with."""
    return KeySet.from_jwks({"keys": await repository.public_keys(cursor)})


async def ensure_platform_key(cursor: Cursor, secret: str) -> None:
    """Idempotent; a key that was revoked stays revoked."""
    await repository.ensure_platform_key(cursor, secret, "bootstrap")


async def _wrap(key: SigningKey, provider: KeyProvider) -> WrappedSigningKey:
    data_key = new_data_key()
    return WrappedSigningKey(
        kid=key.kid,
        wrapped_private=DataKey(data_key).encrypt(key.to_pem(), _bound_to(key.kid)),
        wrapped_key=await provider.wrap(_OWNER, data_key),
    )


async def _unwrap(stored: WrappedSigningKey, provider: KeyProvider) -> SigningKey:
    try:
        data_key = await provider.unwrap(_OWNER, stored.wrapped_key)
        pem = DataKey(data_key).decrypt(stored.wrapped_private, _bound_to(stored.kid))
    except Forbidden as refused:
        raise ConfigurationRefused(
            "The master key does not open the signing key in the database.",
            hint="Set TENANTPLANE_MASTER_KEY to the key that this database was set up with.",
        ) from refused
    return SigningKey.from_pem(pem)


def _bound_to(kid: str) -> bytes:
    return associated_data(_PURPOSE, _OWNER, kid)
