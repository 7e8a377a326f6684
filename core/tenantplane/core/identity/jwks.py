"""JWKS of issuers, fetched by discovery and kept: the loop never blocks, a flood of unknown key
ids costs one refresh per cool-down, and a failed fetch never erases good keys (F6, F7)."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx2

from tenantplane.core.errors import DependencyUnavailable, Unauthenticated
from tenantplane.core.identity.jwk import VerificationKey, candidates, read_jwks

_DISCOVERY: Final = "/.well-known/openid-configuration"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JwksSettings:
    """Times in seconds."""

    # The price of a legitimate rotation: a token under a brand-new key may wait this long.
    cool_down_seconds: float = 30
    # A revoked key stops being accepted after this.
    refresh_after_seconds: float = 300
    # How long good keys outlive their issuer's silence; as long as a plane's own offline time.
    max_age_seconds: float = 14_400
    # For discovery and JWKS together: a request waits for it.
    fetch_timeout_seconds: float = 5
    max_response_bytes: int = 256 * 1024
    # Whoever is on the path of plain HTTP can sign as the issuer. Loopback is always allowed.
    allow_plain_http: bool = False


class _Issuer:
    """What is known of one issuer; changed by its one fetch alone."""

    __slots__ = ("attempted_at", "failure", "fetched_at", "fetching", "generation", "keys")

    def __init__(self) -> None:
        self.keys: tuple[VerificationKey, ...] = ()
        self.generation = 0
        self.fetched_at: float | None = None
        self.attempted_at: float | None = None
        self.failure: str | None = None
        self.fetching: asyncio.Task[None] | None = None


class JwksCache:
    """Keys by issuer. Ask only for issuers that are configured: each is remembered until `forget`.

    `clock` is monotonic, in seconds. Belongs to one event loop.
    """

    def __init__(
        self,
        settings: JwksSettings | None = None,
        *,
        client: httpx2.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or JwksSettings()
        self._client = client
        self._owns_client = client is None
        self._clock = clock
        self._issuers: dict[str, _Issuer] = {}

    async def aclose(self) -> None:
        tasks = [i.fetching for i in self._issuers.values() if i.fetching is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None and self._owns_client:
            await self._client.aclose()

    def generation(self, issuer: str) -> int:
        """Rises whenever the issuer's keys change: what was verified under an older one must be
        verified anew (F8). 0 before the first fetch."""
        known = self._issuers.get(issuer)
        return known.generation if known else 0

    def forget(self, issuer: str) -> None:
        """For an issuer that is no longer configured."""
        known = self._issuers.pop(issuer, None)
        if known is not None and known.fetching is not None:
            known.fetching.cancel()

    async def find(self, issuer: str, kid: str | None, alg: str) -> tuple[VerificationKey, ...]:
        """The keys that may verify a token, never none of them.

        Raises Unauthenticated (`unknown_key`) where the issuer answers and has no such key, and
        DependencyUnavailable where that cannot be known: no keys yet, keys beyond their maximum
        age, or an unknown kid while the issuer does not answer.
        """
        known = self._issuers.setdefault(issuer, _Issuer())
        if self._is_due(known):
            await self._refresh(issuer, known)
        found = self._candidates(known, kid, alg)
        if not found and (known.fetching is not None or not self._is_cooling(known)):
            await self._refresh(issuer, known)
            found = self._candidates(known, kid, alg)
        if not found:
            raise self._refusal(issuer, known, kid)
        return found

    def _age(self, since: float | None) -> float:
        return float("inf") if since is None else self._clock() - since

    def _is_cooling(self, known: _Issuer) -> bool:
        return self._age(known.attempted_at) < self._settings.cool_down_seconds

    def _is_due(self, known: _Issuer) -> bool:
        if self._age(known.fetched_at) < self._settings.refresh_after_seconds:
            return False
        return known.fetching is not None or not self._is_cooling(known)

    def _is_usable(self, known: _Issuer) -> bool:
        return self._age(known.fetched_at) < self._settings.max_age_seconds

    def _candidates(self, known: _Issuer, kid: str | None, alg: str) -> tuple[VerificationKey, ...]:
        return candidates(known.keys, kid, alg) if self._is_usable(known) else ()

    def _refusal(
        self, issuer: str, known: _Issuer, kid: str | None
    ) -> Unauthenticated | DependencyUnavailable:
        if self._is_usable(known) and known.failure is None:
            named = "without a kid" if kid is None else f"with kid {kid!r}"
            return Unauthenticated(
                f"The issuer {issuer} publishes no fitting key for a token {named}.",
                hint="Sign in again; after a rotation of its keys, wait half a minute.",
                code="unknown_key",
            )
        wait = self._settings.cool_down_seconds - self._age(known.attempted_at)
        return DependencyUnavailable(
            f"The keys of the issuer {issuer} cannot be fetched: {known.failure or 'too old'}.",
            hint="Check that the issuer's discovery document can be reached from here.",
            code="issuer_unavailable",
            retry_after_seconds=max(1.0, wait),
        )

    async def _refresh(self, issuer: str, known: _Issuer) -> None:
        if known.fetching is None:
            known.attempted_at = self._clock()
            known.fetching = asyncio.create_task(self._fetch(issuer, known))
        # Shielded: the caller that happened to start it may go away while others wait.
        await asyncio.shield(known.fetching)

    async def _fetch(self, issuer: str, known: _Issuer) -> None:
        try:
            async with asyncio.timeout(self._settings.fetch_timeout_seconds):
                keys = await self._load(issuer)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, RecursionError) as error:
            known.failure = _reason(error)
            _log.warning("keys of the issuer %s were not fetched: %s", issuer, known.failure)
        else:
            if _published(keys) != _published(known.keys):
                known.keys = keys
                known.generation += 1
            known.failure = None
            known.fetched_at = self._clock()
        finally:
            known.fetching = None

    async def _load(self, issuer: str) -> tuple[VerificationKey, ...]:
        self._check_url(issuer)
        discovery = await self._get(issuer.rstrip("/") + _DISCOVERY)
        if not isinstance(discovery, dict) or discovery.get("issuer") != issuer:
            # OpenID Connect Discovery section 4.3: must be identical.
            raise ValueError("its discovery document names another issuer")
        jwks_uri = discovery.get("jwks_uri")
        if not isinstance(jwks_uri, str):
            raise ValueError("its discovery document has no jwks_uri")  # noqa: TRY004 - a value of theirs
        if issuer.startswith("https://") and not jwks_uri.startswith("https://"):
            raise ValueError("its jwks_uri is not https")
        self._check_url(jwks_uri)
        keys = read_jwks(await self._get(jwks_uri))
        if not keys:
            raise ValueError("its JWKS has no usable signing key")
        return keys

    def _check_url(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "https":
            return
        if parts.scheme != "http" or not (
            self._settings.allow_plain_http or _is_loopback(parts.hostname)
        ):
            raise ValueError("its URL is not https")

    async def _get(self, url: str) -> object:
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=self._settings.fetch_timeout_seconds)
        # No compression: the bound is on what is read, and a bomb must not unfold before it.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        async with self._client.stream(
            "GET", url, headers=headers, follow_redirects=False
        ) as answer:
            if answer.status_code != 200:
                raise ValueError(f"it answered {answer.status_code}")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ValueError("it compressed its answer unasked")
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > self._settings.max_response_bytes:
                    raise ValueError(f"its answer passes {self._settings.max_response_bytes} bytes")
        value: object = json.loads(body)
        return value


def _published(keys: tuple[VerificationKey, ...]) -> list[object]:
    return [key.jwk for key in keys]


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: Exception) -> str:
    """Ours in words; of a library's error the type alone, which carries no foreign text."""
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return "it did not answer in time"
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError | UnicodeError):
        return str(error)
    return f"{type(error).__name__}"
