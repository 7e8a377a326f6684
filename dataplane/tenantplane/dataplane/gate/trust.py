"""The control plane's public keys as this plane knows them: one set for tokens and snapshots."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from tenantplane.core.errors import DependencyUnavailable, TenantplaneError, Unauthenticated
from tenantplane.core.identity.keyset import KeySet

_log = logging.getLogger(__name__)

Jwks = Mapping[str, object]
_Checked = TypeVar("_Checked")


class TrustedKeys:
    """Good keys are never lost to a failed fetch, and unknown kids cannot cause a flood of them.

    `generation` rises with every change of the set: whatever was verified under an older one is
    verified again (F8).
    """

    def __init__(
        self, *, cool_down_seconds: float, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self.generation = 0
        self._keys: KeySet | None = None
        self._cool_down_seconds = cool_down_seconds
        self._elapsed = elapsed
        self._fetch: Callable[[], Awaitable[Jwks]] | None = None
        self._fetched_at: float | None = None
        self._one_at_a_time = asyncio.Lock()

    def replace(self, jwks: Jwks) -> bool:
        """Takes a set from the control plane; False where it is the one held.

        Raises ValueError where it holds no usable key: the known ones then stay.
        """
        keys = KeySet.from_jwks(jwks)
        if self._keys is not None and keys.to_jwks() == self._keys.to_jwks():
            return False
        self._keys = keys
        self.generation += 1
        return True

    def fetch_with(self, fetch: Callable[[], Awaitable[Jwks]]) -> None:
        """Says where newer keys are to be had, once this plane can reach its control plane."""
        self._fetch = fetch

    def current(self) -> KeySet:
        """Raises DependencyUnavailable where no keys were ever received."""
        if self._keys is None:
            raise DependencyUnavailable(
                "This plane does not yet know its control plane's keys.",
                code="plane_not_synced",
                retry_after_seconds=2,
            )
        return self._keys

    async def verified(self, check: Callable[[KeySet], _Checked]) -> _Checked:
        """The answer of `check`, asked again with newer keys where it raised `unknown_key`.

        At most one fetch per cool-down, shared by all who wait (F6); then the refusal stands.
        """
        generation = self.generation
        try:
            return check(self.current())
        except Unauthenticated as refused:
            if refused.error_code != "unknown_key":
                raise
            await self._refresh_if_cool(generation)
            if self.generation == generation:
                raise
        return check(self.current())

    async def refresh(self) -> None:
        """Fetches the set now; what is fetched and no JWKS raises ValueError. The known keys stay
        where it fails."""
        if self._fetch is not None:
            self._fetched_at = self._elapsed()
            self.replace(await self._fetch())

    async def _refresh_if_cool(self, generation: int) -> None:
        async with self._one_at_a_time:
            if self.generation != generation or not self._is_cool():
                return  # somebody fetched while we waited
            try:
                await self.refresh()
            except (TenantplaneError, ValueError) as failed:
                _log.warning("the control plane's keys could not be fetched: %s", failed)

    def _is_cool(self) -> bool:
        return (
            self._fetched_at is None
            or self._elapsed() - self._fetched_at >= self._cool_down_seconds
        )
