"""Model providers over HTTP: OpenAI's chat completions and embeddings, as OpenAI, Anthropic's
compatible endpoint and self-hosted servers speak them.

Bounded in time and size; a provider's key is in the session's header alone, never in an error or a
log line. No retries here: a call that may have been billed is never made twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.core.errors import DependencyUnavailable, InvalidInput
from tenantplane.dataplane.models.sse import DONE, events

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_ERROR_BYTES = 16 * 1024
_CHAT, _EMBEDDINGS = "/chat/completions", "/embeddings"
_DEFAULT_RETRY_AFTER_SECONDS = 5.0
_LONGEST_RETRY_AFTER_SECONDS = 3600.0

RATE_LIMITED = "provider_rate_limited"
UNAVAILABLE = "provider_unavailable"
MISCONFIGURED = "provider_misconfigured"
TIMED_OUT = "provider_timeout"
BROKEN_ANSWER = "provider_broken_answer"

# The request was sent and no complete answer came: the provider may bill for it.
_MAYBE_BILLED = frozenset({TIMED_OUT, BROKEN_ANSWER})


class ProviderSettings(BaseModel):
    """One provider. `model_map` maps a grant's upstream model to the provider's name of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: HttpUrl  # of an API like OpenAI's; ends in /v1
    api_key: SecretStr | None = None  # sent as a bearer token; none where absent
    # Upstream model of a plan → the provider's name for it; the same name where absent.
    model_map: dict[str, str] = Field(default_factory=dict)
    # The whole call, streaming included; the hold outlives it.
    timeout_seconds: Annotated[float, Field(gt=0, le=1800)] = 300.0
    # Until a connection stands.
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    # Longest silence between two chunks of a stream, or before the first byte of an answer.
    idle_timeout_seconds: Annotated[float, Field(gt=0, le=1800)] = 120.0
    # Calls at once: one pool a provider and replica; beyond it calls queue within their time-out.
    connections: Annotated[int, Field(ge=1, le=10_000)] = 512
    # Field of the request that bounds the answer. OpenAI's reasoning models refuse the old name; some self-hosted servers know only the old one.
    output_limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"


def may_have_billed(error: Exception) -> bool:
    """Whether the provider may charge for a call that ended in `error`."""
    if isinstance(error, InvalidInput):
        return False
    return not isinstance(error, DependencyUnavailable) or error.error_code in _MAYBE_BILLED


class Providers:
    """Clients of all configured providers; `open` within the running loop, `close` at the end."""

    def __init__(self, settings: Mapping[str, ProviderSettings]) -> None:
        self._settings = dict(settings)
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def open(self) -> None:
        for name, settings in self._settings.items():
            self._sessions[name] = _session(settings)

    async def close(self) -> None:
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()

    def timeout_seconds(self, grant: ModelGrant) -> float:
        """After this a call is over for sure. Raises DependencyUnavailable (not configured)."""
        return self._of(grant).timeout_seconds

    def has(self, name: str) -> bool:
        """Whether a provider of this name is configured."""
        return name in self._settings

    def upstream_model(self, grant: ModelGrant) -> str:
        """The provider's own name of the model. Raises DependencyUnavailable (not configured)."""
        return self._of(grant).model_map.get(grant.upstream_model, grant.upstream_model)

    async def complete(
        self, grant: ModelGrant, body: Mapping[str, Any], output_limit: int
    ) -> dict[str, Any]:
        """The provider's answer, a JSON object with a `choices` list.

        Raises InvalidInput (the provider refuses the request), DependencyUnavailable.
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

        Raises as `complete`; a stream that ends without its end raises DependencyUnavailable.
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
                        raise await _refusal(grant, response)
                    yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as failed:
            raise _unavailable(grant, UNAVAILABLE, "cannot be reached") from failed
        except TimeoutError as late:
            raise _unavailable(grant, TIMED_OUT, "did not answer in time") from late
        except aiohttp.ClientError as failed:
            raise broken_answer(grant, f"a broken answer ({type(failed).__name__})") from failed

    def _payload(
        self, grant: ModelGrant, body: Mapping[str, Any], output_limit: int
    ) -> dict[str, Any]:
        field = self._of(grant).output_limit_field
        return {**body, "model": self.upstream_model(grant), field: output_limit}

    def _of(self, grant: ModelGrant) -> ProviderSettings:
        if grant.provider not in self._sessions:
            raise DependencyUnavailable(
                f"Model {grant.name!r} needs provider {grant.provider!r}, which this plane lacks.",
                hint="The platform's operator configures it: TENANTPLANE_PROVIDERS.",
                code=MISCONFIGURED,
            )
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
            connect=settings.connect_timeout_seconds,
            sock_read=settings.idle_timeout_seconds,
        ),
        # No cookies between tenants' calls, and none of the environment's proxies or .netrc keys.
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


async def _refusal(grant: ModelGrant, response: aiohttp.ClientResponse) -> Exception:
    status = response.status
    if status in {400, 413, 422}:
        message = _provider_message(await _read(response, MAX_ERROR_BYTES) or b"")
        return InvalidInput(
            f"The provider of {grant.name!r} refuses the request: {message}",
            code="provider_refused",
        )
    if status == 429:
        return _unavailable(
            grant, RATE_LIMITED, "is limiting our rate", _retry_after(response.headers)
        )
    if status in {401, 403, 404} or status < 400:
        # Ours to repair, not the caller's; its message may quote a part of the key.
        _log.error("provider %s answered %d: check its key and models", grant.provider, status)
        return _unavailable(grant, MISCONFIGURED, "refuses this plane")
    return _unavailable(grant, UNAVAILABLE, f"answered {status}", _retry_after(response.headers))


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


def _provider_message(body: bytes) -> str:
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return "no reason given."
    return str(message)[:500]


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return _DEFAULT_RETRY_AFTER_SECONDS
    if not 0 <= seconds <= _LONGEST_RETRY_AFTER_SECONDS:  # NaN is outside too
        return _DEFAULT_RETRY_AFTER_SECONDS
    return seconds


def _has_finish_reason(chunk: Mapping[str, Any]) -> bool:
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return False
    return any(isinstance(c, dict) and c.get("finish_reason") for c in choices)


def broken_answer(grant: ModelGrant, what: str) -> DependencyUnavailable:
    """The error for an answer that came and cannot be used: it may be billed."""
    return _unavailable(grant, BROKEN_ANSWER, f"sent {what}")


def _unavailable(
    grant: ModelGrant, code: str, what: str, retry_after: float = _DEFAULT_RETRY_AFTER_SECONDS
) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"The provider of model {grant.name!r} {what}.",
        code=code,
        retry_after_seconds=retry_after,
    )
