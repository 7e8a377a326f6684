"""POST with an Idempotency-Key: done once at most, and answered the same to whoever asks again.

    read whole → claim committed → the application → answer kept → its last bytes go out

What if the process dies between two of these: before the claim, the next one with the key is
served; after it nothing is ever run again. The claim's lease runs out, and whoever asks is told
that the run was interrupted, by its id; once the answer is kept, whoever asks gets it. A client that
leaves ends nothing here: it will ask again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

from tenantplane.core.errors import (
    DependencyUnavailable,
    InvalidInput,
    NotFound,
    TenantplaneError,
)
from tenantplane.core.ids import new_id
from tenantplane.dataplane.api.asgi import ClientGone, read_body
from tenantplane.dataplane.gate.idempotency_settings import IdempotencySettings
from tenantplane.dataplane.gate.kept_answers import (
    Fate,
    Fields,
    KeptAnswer,
    fate,
    open_answer,
    refusal,
)
from tenantplane.dataplane.gate.refusals import KnownRefusals
from tenantplane.dataplane.gate.request import place_run_id, request_tenant
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.ledger.requests import (
    Claim,
    ClaimAnswer,
    ClaimStatus,
    RequestJournal,
    RequestKey,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)

_FIELD: Final = b"idempotency-key"
_KEY: Final = re.compile(rb"[\x20-\x7e]{1,255}")
# Longer than any route: a row of the index has bounds.
_LONGEST_ROUTE: Final = 255
# Encrypting a megabyte takes a millisecond: no other request waits for it.
_SEALED_ON_THE_LOOP_BYTES: Final = 64 * 1024


def idempotency_key(scope: Scope) -> str | None:
    """The key of a POST; other methods do the same when they are repeated. Raises InvalidInput."""
    if scope["method"] != "POST":
        return None
    given = [value for name, value in scope["headers"] if name == _FIELD]
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise InvalidInput(
            "Idempotency-Key: one key of 1 to 255 printable ASCII characters.",
            hint="A random UUID is a good one.",
            code="invalid_idempotency_key",
        )
    return bytes(given[0]).decode("ascii")


class Idempotency:
    def __init__(
        self,
        requests: RequestJournal,
        keys: DataKeys,
        refusals: KnownRefusals,
        settings: IdempotencySettings,
    ) -> None:
        """`requests` is started and stopped by who made it."""
        self._requests = requests
        self._keys = keys
        self._refusals = refusals
        self._settings = settings

    async def serve(
        self, application: Application, key: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serves the request, or gives it the answer that it had before.

        Raises what the application raises, Conflict (in flight, interrupted, not kept),
        Unprocessable (another request), DependencyUnavailable.
        """
        tenant = request_tenant(scope)
        # Whoever is over its quota for sure costs nobody a commit.
        self._refusals.require_room(tenant.snapshot, tenant.context)
        route = _route(scope)
        try:
            body = await read_body(receive)
        except ClientGone:
            return
        context = tenant.context
        request = RequestKey(context.org_id, context.principal, route, key)
        claim = Claim(request, _fingerprint(scope, body), new_id())
        answer = await self._requests.claim(claim)
        match answer.status:
            case ClaimStatus.CLAIMED:
                await self._run(claim, application, scope, body, send)
            case ClaimStatus.DONE:
                await self._replay(claim.key, answer, send)
            case _:
                raise refusal(answer)

    async def _run(
        self, claim: Claim, application: Application, scope: Scope, body: bytes, send: Send
    ) -> None:
        place_run_id(scope, claim.run_id)
        recording = _Recording(send, self._settings.largest_answer_bytes)
        try:
            async with self._renewed(claim):
                await application(scope, _receiving(body), recording)
        except BaseException as failed:
            await self._end(claim, recording, failed)
            raise
        await self._end(claim, recording, None)

    async def _end(self, claim: Claim, recording: _Recording, failed: BaseException | None) -> None:
        if recording.ended:
            if fate(recording.status, recording.fields) is Fate.RELEASED:
                await _stored(claim, self._requests.release(claim))
            else:
                await _stored(claim, self._keep(claim, recording))
            await recording.finish()
        elif recording.status == 0 and _was_refused(failed):
            # The gate makes the answer of it.
            await _stored(claim, self._requests.release(claim))
        else:
            # A fault of ours, an answer cut in the middle, or the end of this process.
            await _stored(claim, self._requests.interrupt(claim))

    async def _keep(self, claim: Claim, recording: _Recording) -> None:
        if recording.too_large:
            await self._requests.keep(claim, None)
            return
        answer = KeptAnswer.of(recording.status, recording.fields, recording.body())
        data_key = await self._keys.of(claim.key.org_id)
        if len(answer.body) > _SEALED_ON_THE_LOOP_BYTES:
            sealed = await asyncio.to_thread(answer.seal, claim, data_key)
        else:
            sealed = answer.seal(claim, data_key)
        await self._requests.keep(claim, sealed)

    async def _replay(self, key: RequestKey, found: ClaimAnswer, send: Send) -> None:
        sealed = await self._requests.response(key, found.run_id)
        if sealed is None:
            # Its time ended between the two looks: the next one claims the key.
            raise DependencyUnavailable("The kept answer is just gone.", retry_after_seconds=1)
        data_key = await self._keys.of(key.org_id)
        answer = await asyncio.to_thread(open_answer, sealed, key, found.run_id, data_key)
        fields = answer.replayed()
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": answer.body})

    @asynccontextmanager
    async def _renewed(self, claim: Claim) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._renew(claim), name=f"renew-{claim.run_id}")
        try:
            yield
        finally:
            renewing.cancel()

    async def _renew(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            await _stored(claim, self._requests.renew(claim))


class _Recording:
    """`send` that keeps what goes through it, and holds the end back until it is told to go."""

    def __init__(self, send: Send, most_bytes: int) -> None:
        self._send = send
        self._most_bytes = most_bytes
        self._held: list[Message] = []  # the start until the first piece, then the end
        self._pieces: list[bytes] = []
        self._bytes = 0
        self.status = 0  # none yet
        self.fields: Fields = ()
        self.ended = False

    async def __call__(self, message: Message) -> None:
        self._held.append(message)
        if message["type"] == "http.response.start":
            self.status, self.fields = message["status"], message.get("headers", ())
            return
        self._take(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        if not self.ended:
            await self.finish()

    @property
    def too_large(self) -> bool:
        return self._bytes > self._most_bytes

    def body(self) -> bytes:
        return b"".join(self._pieces)

    async def finish(self) -> None:
        """Sends what is held back."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)

    def _take(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self.too_large:
            self._pieces.clear()
        else:
            self._pieces.append(piece)


async def _stored(claim: Claim, storing: Coroutine[Any, Any, None]) -> None:
    """The answer goes out even where it could not be kept: its outcome is in the ledger, and a
    retry is told that the run was interrupted, and never run again."""
    try:
        await storing
    except TenantplaneError as failed:
        _log.warning("request of run %s is not kept: %s", claim.run_id, failed.detail)


def _was_refused(failed: BaseException | None) -> bool:
    return isinstance(failed, TenantplaneError) and fate(failed.status, ()) is Fate.RELEASED


def _route(scope: Scope) -> str:
    route = quote(scope["path"])
    if len(route) > _LONGEST_ROUTE:
        raise NotFound("There is no such route.", code="no_such_route")
    return route


def _fingerprint(scope: Scope, body: bytes) -> bytes:
    """Of all that says what is asked for: query, type and bytes of the body, as they were sent."""
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    digest = sha256()
    for part in (scope["query_string"], b",".join(types), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _receiving(body: bytes) -> Receive:
    """The body once; and then nothing more, for ever: nobody is told that the client left."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    return receive
