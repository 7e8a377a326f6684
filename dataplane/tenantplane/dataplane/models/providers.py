"""Model providers over HTTP: OpenAI's chat completions and embeddings, as OpenAI, Anthropic's
compatible endpoint and self-hosted servers speak them.

Bounded in time and size; a provider's key is in the session's header alone, never in an error or a
log line. One request for each call: whether another one follows is models/resilience.py's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import TenantplaneError
from tenantplane.dataplane.models import vocabularies
from tenantplane.dataplane.models.guard import Guard
from tenantplane.dataplane.models.json_text import decoded, encoded
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
from tenantplane.dataplane.models.sse import DONE, EventReader
from tenantplane.dataplane.models.vocabularies import Vocabulary

__all__ = ["MISCONFIGURED", "ProviderSettings", "Providers", "broken_answer", "may_have_billed"]

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_ERROR_BYTES = 16 * 1024
# All that a call upstream raises besides its own answer.
_FAILURES: Final = (aiohttp.ClientError, TimeoutError)


@dataclass(frozen=True, slots=True)
class _Client:
    """What one provider is asked with: all of it made once."""

    settings: ProviderSettings
    session: aiohttp.ClientSession
    chat: URL
    embeddings: URL


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
        self._clients: dict[str, _Client] = {}

    async def open(self) -> None:
        counted = {v for settings in self._settings.values() for v in settings.tokenizers.values()}
        await asyncio.to_thread(vocabularies.load, counted)
        for name, settings in self._settings.items():
            base = str(settings.base_url).rstrip("/")
            self._clients[name] = _Client(
                settings,
                _session(settings),
                chat=URL(base + "/chat/completions"),
                embeddings=URL(base + "/embeddings"),
            )

    async def close(self) -> None:
        while self._clients:
            _, client = self._clients.popitem()
            await client.session.close()

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
        return self._of(grant).settings.timeout_seconds

    def has(self, name: str) -> bool:
        """Whether a provider of this name is configured."""
        return name in self._settings

    def upstream_model(self, grant: ModelGrant) -> str:
        """The provider's own name of the model. Raises ProviderUnavailable (not configured)."""
        return _upstream_model(self._of(grant).settings, grant)

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
        client = self._of(grant)
        payload = _payload(client.settings, grant, body, output_limit)
        answer = await self._whole(grant, client, client.chat, payload)
        choices = answer.get("choices")
        if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
            raise broken_answer(grant, "an answer without choices")
        return answer

    async def embed(self, grant: ModelGrant, body: Mapping[str, Any]) -> dict[str, Any]:
        """The provider's answer to `body` (`input` and options), a JSON object, else unchecked.

        Raises as `complete`.
        """
        client = self._of(grant)
        payload = {**body, "model": _upstream_model(client.settings, grant)}
        return await self._whole(grant, client, client.embeddings, payload)

    @asynccontextmanager
    async def stream(
        self, grant: ModelGrant, body: Mapping[str, Any], output_limit: int
    ) -> AsyncIterator[AsyncIterator[list[dict[str, Any]]]]:
        """Chunks as they come, those that come together as one list, the one with usage last;
        leaving the block ends the call upstream.

        Raises as `complete`; a stream that ends without its end raises ProviderUnavailable.
        """
        client = self._of(grant)
        payload = _payload(client.settings, grant, body, output_limit)
        payload |= {"stream": True, "stream_options": {"include_usage": True}}
        try:
            async with asyncio.timeout(client.settings.timeout_seconds):
                async with await _begun(grant, client, client.chat, payload) as response:
                    yield _chunks(grant, response)
        except _FAILURES as failed:
            raise _failure(grant, failed) from failed

    async def _whole(
        self, grant: ModelGrant, client: _Client, url: URL, payload: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(client.settings.timeout_seconds):
                response = await _begun(grant, client, url, payload)
                try:
                    body = await _read(response, MAX_BODY_BYTES)
                finally:
                    response.release()  # which closes the connection of what was not read
        except _FAILURES as failed:
            raise _failure(grant, failed) from failed
        if body is None:
            raise broken_answer(grant, "an answer that is too large")
        return _object(body, grant)

    def _of(self, grant: ModelGrant) -> _Client:
        client = self._clients.get(grant.provider)
        if client is None:
            raise lacking(grant)
        return client


def _upstream_model(settings: ProviderSettings, grant: ModelGrant) -> str:
    return settings.model_map.get(grant.upstream_model, grant.upstream_model)


def _payload(
    settings: ProviderSettings, grant: ModelGrant, body: Mapping[str, Any], output_limit: int
) -> dict[str, Any]:
    model, field = _upstream_model(settings, grant), settings.output_limit_field
    return {**body, "model": model, field: output_limit}


async def _begun(
    grant: ModelGrant, client: _Client, url: URL, payload: Mapping[str, Any]
) -> aiohttp.ClientResponse:
    """The answer's head is here, and says 200; to be released. Raises TenantplaneError, _FAILURES."""
    response = await client.session.post(url, data=encoded(payload), allow_redirects=False)
    if response.status != 200:
        async with response:
            raise await _refusal(grant, client.settings, response)
    _has_begun(response, client.settings)
    return response


def _failure(grant: ModelGrant, failed: Exception) -> TenantplaneError:
    match failed:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return unreachable(grant)
        case TimeoutError():
            return timed_out(grant)
        case _:
            return broken_answer(grant, f"a broken answer ({type(failed).__name__})")


async def _chunks(
    grant: ModelGrant, response: aiohttp.ClientResponse
) -> AsyncIterator[list[dict[str, Any]]]:
    reader, finished = EventReader(), False
    while piece := await response.content.readany():
        try:
            events = reader.read(piece)
        except ValueError as malformed:
            raise broken_answer(grant, "a stream that is not one of events") from malformed
        chunks, end = _chunks_of(grant, events)
        finished = finished or any(map(_has_finish_reason, chunks))
        if chunks:
            yield chunks
        if isinstance(end, TenantplaneError):  # after what came before it, which may be billed
            raise end
        if end == DONE:
            return
    if not finished:
        raise broken_answer(grant, "a stream that was cut")


def _chunks_of(
    grant: ModelGrant, events: Sequence[bytes]
) -> tuple[list[dict[str, Any]], TenantplaneError | bytes | None]:
    """The chunks, and what ends the stream after them: DONE, an error, or nothing yet."""
    chunks: list[dict[str, Any]] = []
    for data in events:
        if data == DONE:
            return chunks, DONE
        try:
            chunk = _object(data, grant)
        except TenantplaneError as broken:
            return chunks, broken
        if "error" in chunk:
            return chunks, broken_answer(grant, "an error in mid-stream")
        chunks.append(chunk)
    return chunks, None


def _session(settings: ProviderSettings) -> aiohttp.ClientSession:
    headers = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
    }
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
    pieces, size = [], 0
    while not response.content.at_eof():
        piece = await response.content.readany()
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            return None
    return b"".join(pieces)


def _object(data: bytes, grant: ModelGrant) -> dict[str, Any]:
    try:
        document = decoded(data)
    except (ValueError, RecursionError) as malformed:
        raise broken_answer(grant, "something that is not JSON") from malformed
    if not isinstance(document, dict):
        raise broken_answer(grant, "JSON that is not an object")
    return document


def _has_finish_reason(chunk: Mapping[str, Any]) -> bool:
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return False
    return any(isinstance(c, dict) and c.get("finish_reason") for c in choices)
