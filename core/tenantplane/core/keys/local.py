"""The key provider without a KMS: one master key of the platform wraps every org's data keys."""

from __future__ import annotations

import binascii
from typing import Final, Self

from tenantplane.core.errors import ConfigurationRefused
from tenantplane.core.keys.envelope import KEY_BYTES, DataKey, associated_data

_PURPOSE: Final = "wrapped_data_key"


class LocalKeyProvider:
    """For development and small installations. The org id is bound in, so that a wrapped key
    that is moved to another org's row does not open there (F60); erasing one org needs its
    wrapped keys deleted, since the master key serves all."""

    __slots__ = ("_master",)

    def __init__(self, master_key: bytes) -> None:
        """Raises ConfigurationRefused where the key has not 32 bytes, or repeats one byte."""
        if len(master_key) != KEY_BYTES or len(set(master_key)) == 1:
            raise ConfigurationRefused(
                f"The master key is not {KEY_BYTES} random bytes.",
                hint="Make one with: openssl rand -hex 32",
            )
        self._master = DataKey(master_key)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Raises ConfigurationRefused, which never quotes the text."""
        try:
            return cls(binascii.unhexlify(text.strip()))
        except ValueError:
            raise ConfigurationRefused(
                "The master key is not hexadecimal.", hint="Make one with: openssl rand -hex 32"
            ) from None

    def __repr__(self) -> str:
        return "LocalKeyProvider(…)"

    async def wrap(self, org_id: str, dek: bytes) -> bytes:
        return self._master.encrypt(dek, _bound(org_id))

    async def unwrap(self, org_id: str, wrapped: bytes) -> bytes:
        """Raises Forbidden (`ciphertext_refused`) for another org's key."""
        return self._master.decrypt(wrapped, _bound(org_id))


def _bound(org_id: str) -> bytes:
    return associated_data(_PURPOSE, org_id)
