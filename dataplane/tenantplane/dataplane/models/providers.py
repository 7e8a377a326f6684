"""Model providers over HTTP: OpenAI's chat completions and embeddings, as OpenAI, Anthropic's
compatible endpoint and self-hosted servers speak them.

Bounded in time and size; a provider's key is in the session's header alone, never in an error or a
log line. One request for each call: whether another one follows is models/resilience.py's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import TenantplaneError
from tenantplane.dataplane.models import vocabularies
from tenantplane.dataplane.models.guard import Guard
from tenantplane.dataplane.models.provider_errors import (
    MISCONFIGURED,
    broken_answer,
    lacking,
    may_have_billed,
    refusal,
    timed_out,
    unreachable,
)
from tenantplane.dataplane.models.provider_settings import ProviderSettings
from tenantplane.dataplane.models.resilience import Attempts, FailedAttempt
from tenantplane.dataplane.models.sse import DONE, events
from tenantplane.dataplane.models.vocabularies import Vocabulary

__all__ = ["MISCONFIGURED", "ProviderSettings", "Providers", "broken_answer", "may_have_billed"]

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_ERROR_BYTES = 16 * 1024
_CHAT, _EMBEDDINGS = "/chat/completions", "/embeddings"


class Providers:
    """Clients of all configured providers; `open` within the running loop, `close` at the end.
    `elapsed` counts the seconds of pauses and limits."""

    def __init__(
        self,
        settings: Mapping[str, ProviderSettings],
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = dict(settings)
        self._elapsed = elapsed
        self._guards = {name: Guard(name, of, elapsed) for name, of in self._settings.items()}
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def open(self) -> None:
        counted = {v for settings in self._settings.values() for v in settings.tokenizers.values()}
        await asyncio.to_thread(vocabularies.load, counted)
        for name, settings in self._settings.items():
            self._sessions[name] = _session(settings)

    async def close(self) -> None:
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()

    def attempts(
        self,
        org_id: str,
        grant: ModelGrant,
        fallbacks: Callable[[], Sequence[ModelGrant]],
        on_failure: Callable[[FailedAttempt], None],
    ) -> Attempts:
        """The attempts of one call of the org: `fallbacks` are asked for where `grant` fails."""
        return Attempts(self._guards, org_id, grant, fallbacks, on_failure, self._elapsed)

    def timeout_seconds(self, grant: ModelGrant) -> float:
        """After this a call is over for sure. Raises ProviderUnavailable (not configured)."""
        return self._of(grant).timeout_seconds

    def has(self, name: str) -> bool:
        """Whether a provider of this name is configured."""
        return name in self._settings

    def upstream_model(self, grant: ModelGrant) -> str:
        """The provider's own name of the model. Raises ProviderUnavailable (not configured)."""
        return self._of(grant).model_map.get(grant.upstream_model, grant.upstream_model)

    def vocabulary(self, grant: ModelGrant) -> Vocabulary | None:
        """The vocabulary that prompts of the model are counted with; None where none is trusted."""
        settings = self._settings.get(grant.provider)
        return None if settings is None else settings.tokenizers.get(grant.upstream_model)

    async def complete(
        self, grant: ModelGrant, body: Mapping[str, Any], output_limit: int
    ) -> dict[str, Any]:
        """The provider's answer, a JSON object with a `choices` list.

        Raises InvalidInput (the provider refuses the request), ProviderUnavailable.
        """
        payload = self._payload(grant, body, output_limit)
        answer = await self._whole(grant, _CHAT, payload)
        choices = answer.get("choices")
        if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
            raise broken_answer(grant, "an answer without choices")
        return answer

    async def embed(self, grant: ModelGrant, body: Mapping[str, Any]) -> dict[str, Any]:
        """The provider's answer to `body` (`input` and options), a JSON object, else unchecked.

        Raises as `complete`.
        """
        payload = {**body, "model": self.upstream_model(grant)}
        return await self._whole(grant, _EMBEDDINGS, payload)

    @asynccontextmanager
    async def stream(
        self, grant: ModelGrant, body: Mapping[str, Any], output_limit: int
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Chunks as they come, the one with usage last; leaving the block ends the call upstream.

        Raises as `complete`; a stream that ends without its end raises ProviderUnavailable.
        """
        payload = self._payload(grant, body, output_limit)
        payload |= {"stream": True, "stream_options": {"include_usage": True}}
        async with self._post(grant, _CHAT, payload) as response:
            yield self._chunks(grant, response)

    async def _whole(
        self, grant: ModelGrant, path: str, payload: Mapping[str, Any]
    ) -> dict[str, Any]:
        async with self._post(grant, path, payload) as response:
            body = await _read(response, MAX_BODY_BYTES)
            if body is None:
                raise broken_answer(grant, "an answer that is too large")
            return _decode(body, grant)

    async def _chunks(
        self, grant: ModelGrant, response: aiohttp.ClientResponse
    ) -> AsyncIterator[dict[str, Any]]:
        finished = False
        try:
            async for data in events(response.content.iter_any()):
                if data == DONE:
                    return
                chunk = _decode(data.encode(), grant)
                if "error" in chunk:
                    raise broken_answer(grant, "an error in mid-stream")
                finished = finished or _has_finish_reason(chunk)
                yield chunk
        except ValueError as malformed:
            raise broken_answer(grant, "a stream that is not one of events") from malformed
        if not finished:
            raise broken_answer(grant, "a stream that was cut")

    @asynccontextmanager
    async def _post(
        self, grant: ModelGrant, path: str, payload: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        settings = self._of(grant)
        url = str(settings.base_url).rstrip("/") + path
        try:
            async with asyncio.timeout(settings.timeout_seconds):
                request = self._sessions[grant.provider].post(
                    url, json=payload, allow_redirects=False
                )
                async with request as response:
                    if response.status != 200:
                        raise await _refusal(grant, settings, response)
                    _has_begun(response, settings)
                    yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as failed:
            raise unreachable(grant) from failed
        except TimeoutError as late:
            raise timed_out(grant) from late
        except aiohttp.ClientError as failed:
            raise broken_answer(grant, f"a broken answer ({type(failed).__name__})") from failed

    def _payload(
        self, grant: ModelGrant, body: Mapping[str, Any], output_limit: int
    ) -> dict[str, Any]:
        field = self._of(grant).output_limit_field
        return {**body, "model": self.upstream_model(grant), field: output_limit}

    def _of(self, grant: ModelGrant) -> ProviderSettings:
        if grant.provider not in self._sessions:
            raise lacking(grant)
        return self._settings[grant.provider]


def _session(settings: ProviderSettings) -> aiohttp.ClientSession:
    headers = {"accept": "application/json, text/event-stream"}
    if settings.api_key is not None:
        headers["authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
    return aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=settings.connections, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(
            total=None,  # asyncio.timeout around the call: also while the client is slow to read
            # Waiting for a free connection is in it too; turns come first, so there is none.
            connect=settings.connect_timeout_seconds,
            sock_read=settings.first_byte_timeout_seconds,
        ),
        # No cookies between tenants' calls, and none of the environment's proxies or .netrc keys.
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def _has_begun(response: aiohttp.ClientResponse, settings: ProviderSettings) -> None:
    """From here on the other bound of silence holds."""
    connection = response.connection
    if connection is not None and connection.protocol is not None:  # else it is here whole
        connection.protocol.read_timeout = settings.idle_timeout_seconds


async def _refusal(
    grant: ModelGrant, settings: ProviderSettings, response: aiohttp.ClientResponse
) -> TenantplaneError:
    body = await _read(response, MAX_ERROR_BYTES) or b""
    error = refusal(
        grant,
        response.status,
        response.headers,
        body,
        bills_failed_calls=settings.bills_failed_calls,
    )
    if error.error_code == MISCONFIGURED:
        # Ours to repair, not the caller's.
        _log.error(
            "provider %s answered %d: check its key and models", grant.provider, response.status
        )
    return error


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body; None where it is longer than `limit` bytes."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            return None
    return bytes(body)


def _decode(data: bytes, grant: ModelGrant) -> dict[str, Any]:
    try:
        decoded = json.loads(data)
    except (ValueError, RecursionError) as malformed:
        raise broken_answer(grant, "something that is not JSON") from malformed
    if not isinstance(decoded, dict):
        raise broken_answer(grant, "JSON that is not an object")
    return decoded


def _has_finish_reason(chunk: Mapping[str, Any]) -> bool:
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return False
    return any(isinstance(c, dict) and c.get("finish_reason") for c in choices)
