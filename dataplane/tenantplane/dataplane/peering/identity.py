"""Who the plane is to its control plane: a key of its own, and an enrolment.

The key is stored before the enrolment is asked for. Should the process die in between, or after
the control plane has burnt the token and before the answer is stored, the next start asks again
with the same key and token, which the control plane accepts; a different key it refuses.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import SecretStr

from tenantplane.core.apis.planes import Enrolled, EnrollRequest
from tenantplane.core.errors import ConfigurationRefused
from tenantplane.core.keys.envelope import KeyProvider
from tenantplane.core.keys.signing import SigningKey
from tenantplane.dataplane.peering.store import PlaneStore, require_own

_log = logging.getLogger(__name__)

# The plane's key belongs to no org. The colon cannot occur in an org id, so that no org's wrapped
# key opens as the plane's, nor the other way round.
_WRAPPED_FOR: Final = "plane:{plane}"


class Registrar(Protocol):
    """The control plane's enrolment endpoint."""

    async def enrol(self, plane: str, request: EnrollRequest) -> Enrolled: ...


@dataclass(frozen=True, slots=True)
class PlaneIdentity:
    key: SigningKey
    enrolled: Enrolled


class PlaneIdentities:
    """Reads, makes and enrols the identity that all replicas of this plane share."""

    def __init__(self, plane: str, store: PlaneStore, keys: KeyProvider) -> None:
        self._plane = plane
        self._store = store
        self._keys = keys

    async def key(self) -> SigningKey:
        """The plane's key pair, made at the first start of its first replica.

        Raises ConfigurationRefused (another plane's database), Forbidden where the master key is
        not the one that wrapped it.
        """
        purpose = _WRAPPED_FOR.format(plane=self._plane)
        state = await self._store.read()
        if state is None:
            fresh = await self._keys.wrap(purpose, SigningKey.generate().to_pem())
            state = await self._store.offer_key(self._plane, fresh)
        require_own(state, self._plane)
        return SigningKey.from_pem(await self._keys.unwrap(purpose, state.wrapped_key))

    async def enrolled(
        self, key: SigningKey, registrar: Registrar, token: SecretStr | None
    ) -> PlaneIdentity:
        """The enrolled identity; asks the control plane once in the plane's life.

        Raises ConfigurationRefused where there is no token to enrol with, and what the control
        plane refuses.
        """
        state = await self._store.read()
        if state is not None and state.enrolled is not None:
            return PlaneIdentity(key, state.enrolled)
        if token is None:
            raise ConfigurationRefused(
                f"Plane {self._plane!r} has not enrolled and has no enrolment token.",
                hint="Register the plane at its control plane (PUT /v1/planes/NAME) and set"
                " TENANTPLANE_ENROLMENT_TOKEN to the token that it answers.",
            )
        request = EnrollRequest(
            enrolment_token=token.get_secret_value(), public_jwk=key.public_jwk()
        )
        enrolled = await registrar.enrol(self._plane, request)
        await self._store.keep_enrolment(enrolled)
        _log.info("plane %s is enrolled in region %s", enrolled.plane, enrolled.region)
        return PlaneIdentity(key, enrolled)
